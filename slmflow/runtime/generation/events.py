"""What a request in progress delivers: that it has started, pieces of text, and its outcome."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from ..tools.calls import ToolCall, ToolCallPiece


class Usage(TypedDict):
    """Token counts of a completion, as OpenAI reports them. The end token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True)
class TokenChance:
    """A token, and its natural log-probability in the model's own distribution.

    text: what it adds to a text; bytes that are no whole character are written as in `\\xe4`.
    bytes: of these the UTF-8 bytes.
    """

    token: int
    text: str
    bytes: tuple[int, ...]
    logprob: float


@dataclass(frozen=True)
class TokenLogprob:
    """A token of a completion, or of the prompt that it echoes, and the most likely ones there.

    logprob: None for the first token of a prompt. offset: where the token begins in the text. top:
    best first; as many as the request asks for.
    """

    token: int
    text: str
    bytes: tuple[int, ...]
    logprob: float | None
    offset: int
    top: tuple[TokenChance, ...] = ()


@dataclass(frozen=True)
class Completion:
    """A finished completion.

    finish_reason: "stop" at an end token or a stop string, "tool_calls" if it has called tools,
    "length" at `max_tokens` or at the end of the context, or "cancelled". queue_s, first_token_s,
    total_s: seconds from submission to the start of prefill, to the first token and to the end.
    ended_ns: Unix time in nanoseconds. reasoning: what a thinking model wrote before its answer,
    which is `text`; reasoning_tokens: how many tokens that took. logprobs, reasoning_logprobs: of
    the tokens of each, if the request asks for them.
    """

    text: str
    finish_reason: str
    usage: Usage
    queue_s: float
    first_token_s: float
    total_s: float
    ended_ns: int
    reasoning: str = ""
    reasoning_tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    reasoning_logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True)
class PrefillStarted:
    """The model begins to read the prompt."""


@dataclass(frozen=True)
class ReasoningPiece:
    """The next piece of the reasoning, which precedes the text. usage: with the tokens so far."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    usage: Usage | None = None


@dataclass(frozen=True)
class TextPiece:
    """The next piece of the text, which is empty if there are only tokens without text.

    logprobs: of the tokens since the last piece, if the request asks for them. usage: with the
    tokens so far.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    usage: Usage | None = None


Piece = ReasoningPiece | TextPiece | ToolCallPiece
"""What streams of a completion consist of."""

Event = PrefillStarted | Piece | Completion | Exception
"""A completion or an exception ends the request."""

Deliver = Callable[[Event], None]
