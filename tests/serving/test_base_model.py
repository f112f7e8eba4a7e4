"""A base model of each flavor, served: prompts are continued, messages are refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from slmflow.pipeline.results import LoggedModel
from tests.fixtures.base_model import BaseReference
from tests.serving.calls import QUESTION, call
from tests.serving.conftest import Server, serving

PROMPT = "Question: What is the capital of France?\nAnswer:"
NAMES = {"base_genai": "tiny_base", "base_pipeline": "transformers"}


# Loading torch is slow. test_http.py and test_tools.py serve this flavor, and
# tests/flavors/test_base_model.py asks it for completions.
SLOW = pytest.param("base_pipeline", marks=pytest.mark.long)


@pytest.fixture(scope="module", params=["base_genai", SLOW])
def flavor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def base_server(
    flavor: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    model: LoggedModel = request.getfixturevalue(flavor)
    folder: Path = tmp_path_factory.mktemp("serve")
    with serving(folder, f"serve.model_uri={model.model_uri}") as running:
        yield running


def test_completion_equals_transformers(
    base_server: Server, flavor: str, base_reference: BaseReference
) -> None:
    client, name = base_server.client(), NAMES[flavor]
    expected = base_reference.continue_text(PROMPT)
    completion = client.completions.create(model=name, prompt=PROMPT)
    assert completion.choices[0].text == expected
    assert completion.usage
    assert completion.usage.prompt_tokens == len(base_reference.tokenizer(PROMPT).input_ids)
    assert completion.usage.completion_tokens == len(base_reference.continue_ids(PROMPT))
    assert completion.choices[0].finish_reason == "stop"
    short = client.completions.create(model=name, prompt=PROMPT, max_tokens=3)
    assert short.choices[0].text == base_reference.continue_text(PROMPT, 3)
    assert short.choices[0].finish_reason == "length"
    stream = client.completions.create(model=name, prompt=PROMPT, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == expected
    stopped = client.completions.create(model=name, prompt=PROMPT, stop=expected[5:8])
    assert stopped.choices[0].text == expected[:5]
    assert stopped.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("stream", [False, True])
def test_chat_is_refused_with_what_to_do(base_server: Server, flavor: str, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError, match="no chat template") as raised:
        base_server.client().chat.completions.create(
            model=NAMES[flavor], messages=QUESTION, stream=stream
        )
    assert "/v1/completions" in str(raised.value)
    assert "model.template=FILE" in str(raised.value)


def test_models_name_the_endpoints(base_server: Server, server: Server) -> None:
    def endpoints(of: Server) -> list[str]:
        [model] = json.loads(call(of, "GET", "/v1/models")[2])["data"]
        return list(model["endpoints"])

    assert endpoints(base_server) == ["/v1/completions"]
    chat = ["/v1/chat/completions", "/v1/responses"]
    assert endpoints(server) == [*chat, "/v1/completions"]


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": PROMPT},
        {"inputs": {"prompt": [PROMPT]}},
        {"dataframe_records": [{"prompt": PROMPT}]},
        {"dataframe_split": {"columns": ["prompt"], "data": [[PROMPT]]}},
    ],
    ids=lambda body: next(iter(body)),
)
def test_invocations_takes_prompts(
    base_server: Server, base_reference: BaseReference, body: dict[str, object]
) -> None:
    status, _, text = call(base_server, "POST", "/invocations", body)
    assert status == 200, text
    answer = json.loads(text)
    [continuation] = answer["predictions"] if isinstance(answer, dict) else answer
    assert continuation.strip() == base_reference.continue_text(PROMPT).strip()


def test_invocations_takes_csv(base_server: Server, base_reference: BaseReference) -> None:
    body = f'prompt\n"{PROMPT}"\n'.encode()
    headers = {"Content-Type": "text/csv"}
    status, _, text = call(base_server, "POST", "/invocations", body, **headers)
    assert status == 200, text
    answer = json.loads(text)
    [continuation] = answer["predictions"] if isinstance(answer, dict) else answer
    assert continuation.strip() == base_reference.continue_text(PROMPT).strip()


def test_invocations_refuses_messages(base_server: Server) -> None:
    status, _, text = call(base_server, "POST", "/invocations", {"messages": QUESTION})
    assert status == 400, text
    assert "prompt" in text
