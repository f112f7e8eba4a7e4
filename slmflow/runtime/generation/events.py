"""What a request in progress delivers: that it has started, pieces of text, and its outcome."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict


class Usage(TypedDict):
    """Token counts of a completion, as OpenAI reports them. The end token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True)
class Completion:
    """A finished completion.

    finish_reason: "stop" at an end token or a stop string, "length" at `max_tokens` or at the end
    of the context, or "cancelled". queue_s, first_token_s, total_s: seconds from submission to the
    start of prefill, to the first token and to the end. ended_ns: Unix time in nanoseconds.
    reasoning: what a thinking model wrote before its answer, which is `text`.
    """

    text: str
    finish_reason: str
    usage: Usage
    queue_s: float
    first_token_s: float
    total_s: float
    ended_ns: int
    reasoning: str = ""


@dataclass(frozen=True)
class PrefillStarted:
    """The model begins to read the prompt."""


@dataclass(frozen=True)
class ReasoningPiece:
    """The next piece of the reasoning, which precedes the text."""

    text: str


Event = PrefillStarted | ReasoningPiece | str | Completion | Exception
"""A string is the next piece of the text; a completion or an exception ends the request."""

Deliver = Callable[[Event], None]
