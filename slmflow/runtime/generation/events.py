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
class TokenChance:
    """A token, and its natural log-probability in the model's own distribution.

    text: what it adds to a text, with U+FFFD for bytes that are no whole character; bytes: of these
    the UTF-8 bytes, None for a token without bytes of its own.
    """

    token: int
    text: str
    bytes: tuple[int, ...] | None
    logprob: float


@dataclass(frozen=True)
class TokenLogprob(TokenChance):
    """A token of a prompt or completion. top: the most likely tokens at its place, best first."""

    top: tuple[TokenChance, ...] = ()


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


@dataclass(frozen=True)
class TextPiece:
    """The next piece of the text.

    logprobs: of the tokens since the last piece, if the request asks for them.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


Piece = ReasoningPiece | TextPiece
"""What streams of a completion consist of."""

Event = PrefillStarted | Piece | Completion | Exception
"""A completion or an exception ends the request."""

Deliver = Callable[[Event], None]
