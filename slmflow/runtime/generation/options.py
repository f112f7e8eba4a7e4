"""The options of a request: which there are, what each may be, and which are refused by name."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import refuse

# What a number may be: its type, the test it must pass, and that test in words.
_NUMBERS: dict[str, tuple[type, Callable[[float], bool], str]] = {
    "max_tokens": (int, lambda value: value >= 1, "a whole number, at least 1"),
    "temperature": (float, lambda value: 0 <= value <= 2, "between 0 (greedy) and 2"),
    "top_p": (float, lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "top_k": (int, lambda value: value >= 0, "a whole number, at least 0 (no limit)"),
    "seed": (int, lambda value: 0 <= value < 2**63, "a whole number from 0 to 2**63 - 1"),
    "presence_penalty": (float, lambda value: -2 <= value <= 2, "between -2 and 2"),
    "frequency_penalty": (float, lambda value: -2 <= value <= 2, "between -2 and 2"),
    "repetition_penalty": (float, lambda value: 0 < value <= 10, "above 0 (1 is none), at most 10"),
}
# Options of a chat request that this model has no use for, each with the values that ask nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "stream": (False,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "custom_inputs": ({},),
}
# All are looked for after each token; OpenAI takes four.
_MOST_STOPS = 64

# The runtime writes a rule for each item that a list of a schema may have: a million are gigabytes.
_MOST_ITEMS = 10_000

NAMES = (*_NUMBERS, "stop", "response_format")


@dataclass(frozen=True)
class Options:
    """How one answer is generated.

    temperature: 0 is greedy; top_k: 0 is no limit; seed: of the random choices, None a new one each
    time; presence_penalty, frequency_penalty: taken off the logits of tokens that the answer has,
    once or as often as it has them; repetition_penalty: what transformers means by it, over prompt
    and answer; schema: the JSON schema of the answer, as JSON text, None for free text.
    """

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    schema: str | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> "Options":
        """Return the options of one request, with the defaults for what it leaves out.

        Raises MlflowException (400 when served) that names an option which is unknown, not
        supported or out of range.
        """
        accepted: dict[str, Any] = {}
        for name, value in {**defaults, **given}.items():
            if name in _NUMBERS:
                accepted[name] = _number(name, value)
            elif name == "stop":
                accepted["stop"] = _stop(value)
            elif name == "response_format":
                accepted["schema"] = _schema(value)
            elif name not in NEUTRAL:
                refuse(f"{name} is not an option: give {', '.join(NAMES)}")
            elif value not in NEUTRAL[name]:
                refuse(f"{name}={value!r} is not supported: leave it out")
        return cls(**accepted)

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken, as the model has it."""
        return self.temperature == 0 or self.top_k == 1

    @property
    def penalized(self) -> bool:
        """Whether what was said changes what is likely."""
        return (self.presence_penalty, self.frequency_penalty, self.repetition_penalty) != (0, 0, 1)


def _number(name: str, value: Any) -> float:
    kind, accepts, wanted = _NUMBERS[name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # The range first: an int may be too large for a float. NaN and infinity are in none.
    if not is_number or not accepts(value) or value == math.inf or kind(value) != value:
        refuse(f"{name}={value!r}: must be {wanted}")
    return kind(value)  # type: ignore[no-any-return]


def _stop(value: Any) -> tuple[str, ...]:
    stop = [value] if isinstance(value, str) else value
    if not isinstance(stop, list) or not all(isinstance(text, str) and text for text in stop):
        refuse(f"stop={value!r}: must be a text or a list of texts, none of them empty")
    if len(stop) > _MOST_STOPS:
        refuse(f"stop has {len(stop)} texts: give at most {_MOST_STOPS}")
    return tuple(stop)


def _schema(value: Any) -> str | None:
    """Return the JSON schema of an OpenAI `response_format`, None for free text."""
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return '{"type": "object"}'
    given = value.get("json_schema") if kind == "json_schema" else None
    schema = given.get("schema") if isinstance(given, Mapping) else None
    if not isinstance(schema, Mapping):
        refuse(
            f"response_format={value!r}: must be {{'type': 'text'}}, {{'type': 'json_object'}} or "
            "{'type': 'json_schema', 'json_schema': {'schema': {...}}}"
        )
    _refuse_endless(schema)
    return json.dumps(schema)


def _refuse_endless(schema: Mapping[str, Any]) -> None:
    nested: list[Any] = [schema]
    while nested:
        each = nested.pop()
        if isinstance(each, list):
            nested.extend(each)
        elif isinstance(each, Mapping):
            nested.extend(each.values())
            for key in ("minItems", "maxItems"):
                if isinstance(number := each.get(key), int | float) and number > _MOST_ITEMS:
                    most = f"give at most {_MOST_ITEMS:,}, or leave it out"
                    refuse(f"response_format: {key}={number}: {most}")
