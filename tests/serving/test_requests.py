"""Bodies of requests that mean harm, before they reach a model."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException

from slmflow.runtime.generation.options import Options
from slmflow.runtime.prompts.conversation import checked
from slmflow.serving import openai_requests
from slmflow.serving.errors import Refusal

DEFAULTS = {"max_tokens": 8, "temperature": 0.0, "top_p": 1.0}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}


def _options(body: bytes) -> Options:
    """Return what a body asks, as server and model take it."""
    asked = openai_requests.chat(body)
    given = dict(asked.fields)
    checked(given.pop("messages", None))
    return Options.of(given, DEFAULTS)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"n": ' + b"[" * 900 + b"]" * 900 + b"}", "nested more than 64 deep"),
        (b'{"n": ' + b"[" * 10**5, "not JSON"),
        (b"\xff\xfe{", "not JSON"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
    ids=["deep", "deeper", "bytes", "digits"],
)
def test_a_body_that_is_not_read(body: bytes, said: str) -> None:
    with pytest.raises(Refusal, match=said):
        openai_requests.parse(body)


@pytest.mark.parametrize(
    "option",
    [
        *({"max_tokens": value} for value in (0, -1, 1.5, True, "9", float("nan"), [1])),
        *({"temperature": value} for value in (float("nan"), float("inf"), -1, {}, "0")),
        {"stop": ["a"] * 65},
        {"messages": [{"role": "user", "content": 1}]},
        {"messages": {}},
    ],
    ids=str,
)
def test_options_of_a_wrong_kind(option: dict[str, Any]) -> None:
    with pytest.raises(MlflowException):
        _options(json.dumps(CHAT | option).encode())


def test_huge_max_tokens_are_a_number_like_any() -> None:
    """The answer is cut where the context ends, so it reserves nothing."""
    assert _options(json.dumps(CHAT | {"max_tokens": 10**30}).encode()).max_tokens == 10**30


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
_NAMES = st.sampled_from(
    ["messages", "max_tokens", "stop", "n", "stream", "stream_options", "response_format", "user"]
)


@given(fields=st.dictionaries(_NAMES, _JSON, max_size=4), raw=st.binary(max_size=40))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_body_is_a_request_or_refused(fields: dict[str, Any], raw: bytes) -> None:
    for body in (raw, json.dumps(CHAT | fields).encode()):
        try:
            _options(body)
        except (Refusal, MlflowException) as refused:
            assert str(refused)
