"""The options of a request: which exist, their ranges, and which are rejected by name."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from .. import unknown_names
from ..errors import reject
from .guidance import Guidance, parse_response_format
from .token_options import MAX_TOP_LOGPROBS, Biases, parse_logit_bias
from .unsupported import UNSUPPORTED, is_neutral

# Of each number: its type, its test, and the test in words.
_NUMBERS: dict[str, tuple[type, Callable[[float], bool], str]] = {
    "max_tokens": (int, lambda value: value >= 1, "a whole number, at least 1"),
    "max_completion_tokens": (int, lambda value: value >= 1, "a whole number, at least 1"),
    "temperature": (float, lambda value: 0 <= value <= 2, "between 0 (greedy) and 2"),
    "top_p": (float, lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "top_k": (int, lambda value: value >= -1, "a whole number, at least 0 (no limit, as is -1)"),
    "min_p": (float, lambda value: 0 <= value <= 1, "between 0 and 1"),
    "seed": (int, lambda v: -(2**63) <= v < 2**63, "a whole number from -2**63 to 2**63 - 1"),
    "presence_penalty": (float, lambda value: -2 <= value <= 2, "between -2 and 2"),
    "frequency_penalty": (float, lambda value: -2 <= value <= 2, "between -2 and 2"),
    "repetition_penalty": (float, lambda value: 0 < value <= 10, "above 0 (1 is none), at most 10"),
    "logprobs": (
        int,
        lambda value: 0 <= value <= MAX_TOP_LOGPROBS,
        f"a whole number from 0 to {MAX_TOP_LOGPROBS}",
    ),
}
# Each token is checked against all of them; OpenAI accepts four.
_MAX_STOP_STRINGS = 64

# Other servers' value for no limit, and for no seed.
_NONE = -1

NAMES = (*_NUMBERS, "stop", "response_format", "logit_bias", "adapter")


@dataclass(frozen=True)
class RequestOptions:
    """How one completion is generated.

    temperature: 0 is greedy. top_k: 0 is no limit. min_p: None is what the checkpoint says. seed: a
    natural number; None draws a new one each time.
    presence_penalty, frequency_penalty: subtracted from the logits of tokens already generated,
    once or per occurrence. repetition_penalty: as in transformers, over prompt and completion.
    logit_bias: token ids, and what is added to their logits. guidance: what constrains the
    completion, None for free text. logprobs: how many alternatives each token's log-probability
    comes with, None without log-probabilities. adapter: name of the one that the model uses, None
    for the base model.
    """

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int = 0
    min_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Biases = ()
    guidance: Guidance | None = None
    logprobs: int | None = None
    adapter: str | None = None

    @classmethod
    def parse(
        cls, values: Mapping[str, Any], defaults: Mapping[str, Any], fields: Sequence[str] = NAMES
    ) -> "RequestOptions":
        """Validate the options of a request, with defaults for what it leaves out.

        fields: all that such a request may have, for messages. Raises MlflowException (HTTP 400)
        that names an option which is unknown, unsupported or out of range.
        """
        parsed = dict(defaults)  # checked by the configuration or with the checkpoint
        for name, value in values.items():
            if name in _NUMBERS:
                parsed[name] = _parse_number(name, value)
            elif name == "stop":
                parsed["stop"] = _parse_stop(value)
            elif name == "logit_bias":
                parsed["logit_bias"] = parse_logit_bias(value)
            elif name == "response_format":
                parsed["guidance"] = parse_response_format(value)
            elif name == "adapter":
                parsed["adapter"] = _parse_adapter(value)
            elif not is_neutral(name, value):
                _reject_unsupported(name, value, fields)
        _rename_max_completion_tokens(parsed, values)
        if parsed.get("top_k") == _NONE:
            parsed["top_k"] = 0
        if (seed := parsed.get("seed")) is not None:
            parsed["seed"] = None if seed == _NONE else seed % 2**64
        return cls(**parsed)

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is always chosen."""
        return self.temperature == 0 or self.top_k == 1

    @property
    def has_penalties(self) -> bool:
        """Whether earlier tokens change the logits."""
        return (self.presence_penalty, self.frequency_penalty, self.repetition_penalty) != (0, 0, 1)


def _reject_unsupported(name: str, value: Any, fields: Sequence[str]) -> NoReturn:
    if name in UNSUPPORTED:
        reject(f"{name}={value!r:.200} is not supported: leave it out", param=name)
    reject(unknown_names.describe(name, fields), param=name, code=unknown_names.CODE)


def _rename_max_completion_tokens(parsed: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Give OpenAI's newer name of `max_tokens` the older one."""
    if (newer := parsed.pop("max_completion_tokens", None)) is None:
        return
    if "max_tokens" in values:
        reject(
            "max_tokens and max_completion_tokens are the same option: give one of them",
            param="max_completion_tokens",
        )
    parsed["max_tokens"] = newer


def _parse_number(name: str, value: Any) -> float:
    kind, is_valid, requirement = _NUMBERS[name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # The range first: an int may be too large for a float. NaN and infinity are in no range.
    if not is_number or not is_valid(value) or value == math.inf or kind(value) != value:
        reject(f"{name}={value!r}: must be {requirement}", param=name)
    return kind(value)  # type: ignore[no-any-return]


def _parse_adapter(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        reject(f"adapter={value!r:.200}: must be the name of an adapter", param="adapter")
    return value


def _parse_stop(value: Any) -> tuple[str, ...]:
    stop = [value] if isinstance(value, str) else value
    if not isinstance(stop, list) or not all(isinstance(text, str) and text for text in stop):
        reject(f"stop={value!r}: must be a non-empty string or a list of them", param="stop")
    if len(stop) > _MAX_STOP_STRINGS:
        reject(f"stop has {len(stop)} strings: give at most {_MAX_STOP_STRINGS}", param="stop")
    return tuple(stop)
