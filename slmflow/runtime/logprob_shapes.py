"""Shape log-probabilities as OpenAI's two endpoints do, from the fields of `TokenLogprob`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Fields = Mapping[str, Any]


def shape_chat(content: Iterable[Fields], reasoning: Sequence[Fields] = ()) -> dict[str, Any]:
    """Return the `logprobs` of a chat's choice. Those of the reasoning are an addition."""
    shaped: dict[str, Any] = {"content": [_shape_token(each) for each in content], "refusal": None}
    if reasoning:
        shaped["reasoning_content"] = [_shape_token(each) for each in reasoning]
    return shaped


def shape_text(tokens: Sequence[Fields]) -> dict[str, Any]:
    """Return the `logprobs` of a text completion's choice.

    The alternatives include the token itself. The first token of an echoed prompt has none.
    """
    return {
        "tokens": [each["text"] for each in tokens],
        "token_logprobs": [each["logprob"] for each in tokens],
        "top_logprobs": [_shape_alternatives(each) for each in tokens],
        "text_offset": [each["offset"] for each in tokens],
    }


def _shape_token(token: Fields) -> dict[str, Any]:
    return {**_shape_chance(token), "top_logprobs": [_shape_chance(each) for each in token["top"]]}


def _shape_chance(chance: Fields) -> dict[str, Any]:
    return {
        "token": chance["text"],
        "logprob": chance["logprob"],
        "bytes": list(chance["bytes"]),
    }


def _shape_alternatives(token: Fields) -> dict[str, float] | None:
    if token["logprob"] is None:
        return None
    alternatives: dict[str, float] = {}
    for chance in (*token["top"], token):
        # Of tokens with the same text, the most likely one comes first.
        alternatives.setdefault(chance["text"], chance["logprob"])
    return alternatives
