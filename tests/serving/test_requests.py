"""Malformed and hostile request bodies."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException

from slmflow.runtime.generation.options import RequestOptions
from slmflow.runtime.prompts.message_encoder import validate_messages
from slmflow.serving import openai_requests
from slmflow.serving.errors import RequestError

DEFAULTS = {"max_tokens": 8, "temperature": 0.0, "top_p": 1.0}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}


def _options(body: bytes) -> RequestOptions:
    """Parse a body as server and model do."""
    fields = openai_requests.parse_chat(body).body
    validate_messages(fields.pop("messages", None))
    return RequestOptions.parse(fields, DEFAULTS)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"n": ' + b"[" * 900 + b"]" * 900 + b"}", "nested more than 64 levels deep"),
        (b'{"n": ' + b"[" * 10**5, "not JSON"),
        (b"\xff\xfe{", "not JSON"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
    ids=["deep", "deeper", "bytes", "digits"],
)
def test_malformed_body_is_rejected(body: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        openai_requests.parse_body(body)


@pytest.mark.parametrize(
    "option",
    [
        *({"max_tokens": value} for value in (0, -2, 1.5, True, "9", float("nan"), [1])),
        *({"temperature": value} for value in (float("nan"), float("inf"), -1, {}, "0")),
        {"stop": ["a"] * 65},
        {"messages": [{"role": "user", "content": 1}]},
        {"messages": {}},
    ],
    ids=str,
)
def test_invalid_options_are_rejected(option: dict[str, Any]) -> None:
    with pytest.raises(MlflowException):
        _options(json.dumps(CHAT | option).encode())


def test_huge_max_tokens_are_accepted() -> None:
    """The context limits the completion, so they reserve no memory."""
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
def test_any_body_is_parsed_or_rejected(fields: dict[str, Any], raw: bytes) -> None:
    for body in (raw, json.dumps(CHAT | fields).encode()):
        try:
            _options(body)
        except (RequestError, MlflowException) as error:
            assert str(error)
