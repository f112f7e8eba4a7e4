"""Options of a request about single tokens: their log-probabilities, and biases of their logits."""

from collections.abc import Mapping
from typing import Any

from ..errors import reject

MAX_TOP_LOGPROBS = 20
"""The most alternatives of each token, at both of OpenAI's endpoints."""

# OpenAI's limit of a bias. Each bias costs time in each step.
_MAX_BIAS, _MAX_BIASES = 100, 1024

Biases = tuple[tuple[int, float], ...]


def chat_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chat's options with one number of alternatives, as a text completion has, or none.

    Raises MlflowException (HTTP 400) for invalid values.
    """
    others = {name: value for name, value in options.items() if name != "top_logprobs"}
    wanted, top = others.pop("logprobs", False), options.get("top_logprobs", 0)
    if not isinstance(wanted, bool):
        reject(f"logprobs={wanted!r}: must be true or false", param="logprobs")
    if type(top) is not int or not 0 <= top <= MAX_TOP_LOGPROBS:
        reject(
            f"top_logprobs={top!r}: must be a whole number from 0 to {MAX_TOP_LOGPROBS}",
            param="top_logprobs",
        )
    if top and not wanted:
        reject(f"top_logprobs={top} requires logprobs=true", param="top_logprobs")
    return {**others, "logprobs": top} if wanted else others


def parse_logit_bias(value: Any) -> Biases:
    """Return token ids and what is added to their logits. Raises MlflowException (HTTP 400)."""
    if not isinstance(value, Mapping):
        reject(f"logit_bias={value!r:.100}: must be an object", param="logit_bias")
    if len(value) > _MAX_BIASES:
        reject(
            f"logit_bias has {len(value)} tokens: give at most {_MAX_BIASES}", param="logit_bias"
        )
    return tuple((_parse_token(token), _parse_bias(bias)) for token, bias in value.items())


def reject_unknown_biases(biases: Biases, vocabulary_size: int) -> None:
    """Raise MlflowException (HTTP 400) for a token that the vocabulary does not have."""
    for token, _ in biases:
        if token >= vocabulary_size:
            reject(
                f"logit_bias: token {token} is not in the vocabulary of {vocabulary_size} tokens",
                param="logit_bias",
            )


def _parse_token(token: Any) -> int:
    text = str(token)
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        reject(f"logit_bias: {token!r:.100} is not a token id", param="logit_bias")
    return int(text)


def _parse_bias(bias: Any) -> float:
    is_number = isinstance(bias, int | float) and not isinstance(bias, bool)
    if not is_number or not abs(bias) <= _MAX_BIAS:
        reject(
            f"logit_bias: {bias!r:.100} must be a number from -{_MAX_BIAS} to {_MAX_BIAS}",
            param="logit_bias",
        )
    return float(bias)
