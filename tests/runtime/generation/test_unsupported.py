"""Unsupported options are ignored at values that ask for nothing."""

from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from slmflow.runtime.generation.options import RequestOptions

DEFAULTS = {"max_tokens": 8, "temperature": 0.0, "top_p": 1.0}


def parse(**options: Any) -> RequestOptions:
    return RequestOptions.parse(options, DEFAULTS)


@pytest.mark.parametrize(
    "options",
    [
        {"service_tier": "auto", "store": False, "verbosity": "medium", "modalities": ["text"]},
        {"functions": [], "function_call": "auto", "reasoning_effort": "none", "suffix": ""},
        {"ignore_eos": False, "min_tokens": 0, "skip_special_tokens": True, "length_penalty": 1},
        {"stop_token_ids": [], "use_beam_search": False, "cache_prompt": True, "mirostat": 0},
        {"transforms": [], "provider": {}, "beam": None},
    ],
    ids=["OpenAI", "functions", "vLLM", "llama.cpp", "unknown"],
)
def test_neutral_values_change_nothing(options: dict[str, Any]) -> None:
    assert parse(**options) == parse()


@pytest.mark.parametrize(
    "option",
    [
        *({"service_tier": "priority"}, {"store": True}, {"modalities": ["text", "audio"]}),
        *({"web_search_options": {}}, {"ignore_eos": True}, {"min_tokens": 3}, {"mirostat": 2}),
        *({"reasoning_effort": "high"}, {"store": 0}, {"best_of": True}, {"prompt_logprobs": 0}),
        *({"beam": 0}, {"beam": False}, {"enable_thinking": False}),
    ],
    ids=str,
)
def test_other_values_are_rejected_by_name(option: dict[str, Any]) -> None:
    [name] = option
    with pytest.raises(MlflowException, match=f"^{name}") as raised:
        parse(**option)
    is_unknown = name in ("beam", "enable_thinking")
    code = {"code": "unknown_parameter"} if is_unknown else {}
    assert raised.value.json_kwargs == {"param": name} | code


def test_minus_one_is_no_seed_and_no_limit() -> None:
    assert parse(seed=-1).seed is None
    assert parse(top_k=-1).top_k == 0


def test_negative_seeds_are_seeds() -> None:
    assert (parse(seed=-2).seed or 0) > 0
    assert parse(seed=-2).seed != parse(seed=-3).seed


def test_newer_name_of_max_tokens_is_accepted() -> None:
    assert parse(max_completion_tokens=5).max_tokens == 5
    with pytest.raises(MlflowException, match="the same option"):
        parse(max_completion_tokens=5, max_tokens=5)
    with pytest.raises(MlflowException, match="max_completion_tokens=0: must be") as raised:
        parse(max_completion_tokens=0)
    assert raised.value.json_kwargs == {"param": "max_completion_tokens"}
