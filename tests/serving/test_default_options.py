"""Options for requests that leave them out: `generation.*` and `serve.default_max_tokens`."""

import json
from pathlib import Path
from typing import Any

import pytest

from slmflow.config import compose as configs
from slmflow.errors import UserError
from slmflow.pipeline.results import GenaiModel, TransformersModel
from slmflow.serving.request_defaults import RequestDefaults
from tests.serving.calls import QUESTION, call
from tests.serving.conftest import Server, serving

UNSURE = [{"role": "user", "content": "x y z " * 5}]


def defaults(*overrides: str) -> RequestDefaults:
    return RequestDefaults.from_config(configs.load(overrides), overrides)


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        ([], {"max_tokens": 1024}),
        (["serve.default_max_tokens=5"], {"max_tokens": 5}),
        (["generation.max_new_tokens=64"], {"max_tokens": 64}),
        (["generation.max_new_tokens=3", "serve.default_max_tokens=5"], {"max_tokens": 3}),
        (["generation.temperature=0.0"], {"max_tokens": 1024, "temperature": 0.0}),
        (["generation.top_p=0.5"], {"max_tokens": 1024, "top_p": 0.5}),
        (["generation=sampling"], {"max_tokens": 1024, "temperature": 0.2, "top_p": 1.0}),
        (
            ["generation=sampling", "generation.temperature=0.7", "generation.max_new_tokens=9"],
            {"max_tokens": 9, "temperature": 0.7, "top_p": 1.0},
        ),
    ],
)
def test_given_generation_options_hold(overrides: list[str], options: dict[str, Any]) -> None:
    assert defaults(*overrides).fill({}, is_chat=True) == options


def test_requests_override_defaults() -> None:
    given = defaults("generation.max_new_tokens=3", "generation.temperature=0.7")
    assert given.fill({"max_tokens": 8}, is_chat=False) == {"max_tokens": 8, "temperature": 0.7}
    newer = {"max_completion_tokens": 8, "temperature": 0}
    assert given.fill(newer, is_chat=True) == newer


def test_template_variables_are_merged_for_chat() -> None:
    given = defaults("generation.template.enable_thinking=false", "generation.max_new_tokens=3")
    body = {"chat_template_kwargs": {"date": "today"}}
    variables = {"enable_thinking": False, "date": "today"}
    assert given.fill(body, is_chat=True)["chat_template_kwargs"] == variables
    assert given.fill({}, is_chat=False) == {"max_tokens": 3}


def test_unused_template_variable_is_named() -> None:
    given = defaults("generation.template.enable_thinking=false")
    given.check_variables(["messages", "enable_thinking"])
    with pytest.raises(UserError, match=r"generation\.template: enable_thinking is not a variable"):
        given.check_variables(["messages"])


def complete(server: Server, path: str = "/v1/chat/completions", **fields: Any) -> Any:
    prompt = {"prompt": "The capital of"} if path == "/v1/completions" else {"messages": QUESTION}
    status, _, body = call(server, "POST", path, {**prompt, **fields})
    assert status == 200, body
    return json.loads(body)


@pytest.fixture(params=["chat", pytest.param("pipeline", marks=pytest.mark.long), "older_model"])
def model_uri(request: pytest.FixtureRequest) -> str:
    model: str | GenaiModel | TransformersModel = request.getfixturevalue(request.param)
    return model if isinstance(model, str) else model.model_uri


def test_server_applies_generation_options(model_uri: str, tmp_path: Path) -> None:
    given = ("generation.max_new_tokens=3", "generation.temperature=1.5", "generation.top_p=0.9")
    with serving(tmp_path, f"serve.model_uri={model_uri}", *given) as server:
        for path in ("/v1/chat/completions", "/v1/completions"):
            assert complete(server, path)["usage"]["completion_tokens"] == 3
            assert complete(server, path, max_tokens=2)["usage"]["completion_tokens"] == 2
            other = {"messages": UNSURE} if "chat" in path else {"prompt": "x y z"}
            filled, written = (
                complete(server, path, **other, seed=5, **options)["choices"]
                for options in ({}, {"max_tokens": 3, "temperature": 1.5, "top_p": 0.9})
            )
            assert filled == written


def test_server_limits_length_by_itself_and_by_context(
    chat: GenaiModel, server: Server, tmp_path: Path
) -> None:
    """Without an option, an answer may be longer than the 48 tokens logged with the model."""
    numbers = {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 200}
    long_answer = {
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": numbers}}
    }
    settings = (f"serve.model_uri={chat.model_uri}", "serve.default_max_tokens=60")
    with serving(tmp_path, *settings) as limited:
        assert complete(limited, **long_answer)["usage"]["completion_tokens"] == 60
    text = complete(server, **long_answer)["choices"][0]["message"]["content"]
    assert len(json.loads(text)) == 200
    whole = complete(server, "/v1/completions", prompt="x", logit_bias={})
    assert whole["usage"]["total_tokens"] <= 512
