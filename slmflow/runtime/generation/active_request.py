"""A request in progress: its prompt, the tokens generated so far, and where its events go."""

import logging
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from tokenizers import Tokenizer

from ..tools.calls import ToolCallPiece, join_pieces
from ..tools.parser import CallFormat
from .checkpoint_settings import CheckpointSettings
from .detokenizer import CompletionText
from .echo import EchoedPrompt
from .events import (
    Completion,
    Deliver,
    Event,
    PrefillStarted,
    ReasoningPiece,
    TextPiece,
    TokenLogprob,
    Usage,
)
from .json_ending import ClosingTokens, JsonEnding
from .logits_processors import Logits
from .logprobs import HeldLogprobs, LogprobReader
from .options import RequestOptions
from .reasoning import ReasoningFormat, ReasoningSplitter
from .sampling import NO_SETTINGS, Sampler
from .token_texts import TokenTexts

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelTraits:
    """What all requests to one model share.

    tokenizer: decodes the completions; end_tokens: ids of the tokens that end them; settings: the
    checkpoint's own.
    """

    tokenizer: Tokenizer
    end_tokens: frozenset[int]
    settings: CheckpointSettings = NO_SETTINGS

    @cached_property
    def texts(self) -> TokenTexts:
        """The texts and bytes of single tokens."""
        return TokenTexts(self.tokenizer)

    @cached_property
    def closing_tokens(self) -> ClosingTokens:
        """The tokens that close JSON."""
        return ClosingTokens(self.tokenizer, self.end_tokens)

    def json_ending(self, options: RequestOptions, max_new_tokens: int) -> JsonEnding | None:
        """Return what ends the JSON of a guided completion, None for other text."""
        if options.guidance is None or options.guidance.closing is None:
            return None
        closing = options.guidance.closing
        length = len(self.tokenizer.encode(closing, add_special_tokens=False).ids)
        return JsonEnding(self.closing_tokens, self.texts, max_new_tokens, closing, length)


@dataclass(frozen=True)
class TextFormat:
    """What the text of a completion is.

    reasoning: how to recognize it; None leaves it in the text. continues_prompt: whether it is that
    of the prompt continued, white space and end token included, or an answer. echo: the text of the
    prompt, to precede the completion; None leaves it out. tools: how to find calls of them; None
    leaves them in the text.
    """

    reasoning: ReasoningFormat | None = None
    continues_prompt: bool = False
    echo: str | None = None
    tools: CallFormat | None = None


ANSWER = TextFormat()


class ActiveRequest:
    """A request in progress. Only the generating thread may use it, except for `cancel`.

    prompt: the token ids that are prefilled; generated: those that follow; max_new_tokens: the most
    that follow. The log-probabilities of a prompt need the logits before each of its tokens, so the
    engine replays all but the first, as if they had been generated. settled: how many of the
    generated are prefilled after the prompt; streamed: whether somebody reads the pieces as they
    come.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        options: RequestOptions,
        max_new_tokens: int,
        model: ModelTraits,
        deliver: Deliver,
        format_: TextFormat = ANSWER,
    ) -> None:
        """Generate at most `max_new_tokens` after the token ids of `prompt`."""
        reader = options.logprobs is not None and LogprobReader(model.texts, options.logprobs)
        self._logprobs = HeldLogprobs(reader) if reader else None
        self._echo = (
            None
            if format_.echo is None
            else EchoedPrompt(format_.echo, prompt, model.tokenizer, reader or None)
        )
        self._replayed = self._echo.unread if self._echo else 0
        start = len(prompt) - self._replayed
        self.prompt, self.generated = prompt[:start], list(prompt[start:])
        self.options, self.max_new_tokens = options, self._replayed + max_new_tokens
        self.settled = 0
        self.streamed = False
        self.replays_end_token = not model.end_tokens.isdisjoint(self.generated)
        self.sampler = Sampler(options, prompt, model.settings, model.end_tokens)
        self.json_ending = model.json_ending(options, max_new_tokens)
        self.cancelled = False
        self.finished = False
        self.completion: Completion | None = None
        self.submitted_at = time.perf_counter()
        self._end_tokens, self._deliver, self._format = model.end_tokens, deliver, format_
        self._text = CompletionText(
            model.tokenizer,
            options.stop,
            ReasoningSplitter(format_.reasoning) if format_.reasoning else None,
            context=prompt if format_.continues_prompt else None,
            calls=format_.tools.parser() if format_.tools else None,
        )
        self._pieces: list[TextPiece] = []
        self._reasoning: list[ReasoningPiece] = []
        self._reasoning_tokens = 0
        self._calls: list[ToolCallPiece] = []
        self._prefill_at: float | None = None
        self._first_token_at: float | None = None

    @property
    def is_plain_greedy(self) -> bool:
        """Whether ONNX Runtime GenAI can choose the tokens itself: the most likely one each."""
        options = self.options
        needs_logits = options.guidance is not None or options.logprobs is not None
        return options.is_greedy and self.sampler.keeps_logits and not needs_logits

    @property
    def remaining_tokens(self) -> int:
        """How many more tokens may be generated."""
        return self.max_new_tokens - len(self.generated)

    @property
    def tokens_to_read(self) -> Sequence[int]:
        """The token ids that are prefilled: the prompt, and the settled tokens."""
        return [*self.prompt, *self.generated[: self.settled]] if self.settled else self.prompt

    @property
    def read_length(self) -> int:
        """How many tokens are prefilled."""
        return len(self.prompt) + self.settled

    def cancel(self) -> None:
        """Request an early end. The completion so far is delivered soon after."""
        self.cancelled = True

    def finish_if_cancelled(self) -> None:
        """Deliver the completion so far if the request was cancelled."""
        if self.cancelled and not self.finished:
            self.finish("cancelled")

    def start_prefill(self) -> None:
        """Record that the model reads the prompt. Only the first of several calls counts."""
        if self._prefill_at is None:
            self._prefill_at = time.perf_counter()
            self._emit(PrefillStarted())

    def finish_if_complete(self) -> None:
        """Deliver the completion if neither tokens nor log-probabilities are asked for."""
        if not (self.remaining_tokens or (self._echo and self._echo.unread)):
            self.finish("length")

    def read_replayed(self, index: int, logits: Logits | None) -> None:
        """Take the model's logits, float32[vocabulary], before the replayed `generated[index]`.

        Finish after the last token of a prompt if no more are asked for.
        """
        if self._echo and logits is not None and index < self._replayed:
            self._echo.read(index + 1, logits)
            self.finish_if_complete()

    def append_token(self, token: int, logits: Logits | None = None) -> None:
        """Add the next token, deliver the text that it completes, and finish where it ends.

        logits: the model's own before it, float32[vocabulary]; log-probabilities need them.
        """
        if self._first_token_at is None:
            self._first_token_at = time.perf_counter()
        self._emit_echo()
        self.generated.append(token)
        self.sampler.record(token)
        if self.json_ending:
            self.json_ending.record(token)
        is_end = token in self._end_tokens
        if self._logprobs and (self._format.continues_prompt or not is_end):
            self._logprobs.add(token, logits, self._text.decoded)
        if is_end:
            self.finish("stop")
            return
        self._reasoning_tokens += self._text.answer_start == math.inf
        self._emit_text(self._text.push(token))
        if self._text.stopped:
            self.finish("stop")
        elif self.remaining_tokens == 0:
            self.finish("length")

    def finish(self, reason: str) -> None:
        """Deliver the completion."""
        if reason != "cancelled":
            self._emit_echo()
        if not self._text.stopped:
            self._emit_text(self._text.flush())
            reason = "stop" if self._text.stopped else reason
        self._emit_last_logprobs()
        self.finished = True
        if self._calls and reason == "stop":
            reason = "tool_calls"
        now = time.perf_counter()
        self.completion = Completion(
            text="".join(piece.text for piece in self._pieces),
            finish_reason=reason,
            usage=self._usage,
            queue_s=(self._prefill_at or now) - self.submitted_at,
            first_token_s=(self._first_token_at or now) - self.submitted_at,
            total_s=now - self.submitted_at,
            ended_ns=time.time_ns(),
            reasoning="".join(piece.text for piece in self._reasoning),
            reasoning_tokens=self._reasoning_tokens if self._reasoning else 0,
            logprobs=_logprobs_of(self._pieces),
            reasoning_logprobs=_logprobs_of(self._reasoning),
            tool_calls=join_pieces(self._calls),
        )
        self._emit(self.completion)

    def fail(self, error: Exception) -> None:
        """Deliver an error instead of a completion."""
        self.finished = True
        self._emit(error)

    @property
    def _usage(self) -> Usage:
        """The token counts so far."""
        total = len(self.prompt) + len(self.generated)
        generated = len(self.generated) - self._replayed
        return Usage(
            prompt_tokens=total - generated, completion_tokens=generated, total_tokens=total
        )

    def _emit_echo(self) -> None:
        if self._echo and not self._pieces:
            self._emit_piece(self._echo.piece())

    def _emit_text(self, piece: str) -> None:
        released, answer_start = self._text.released, self._text.answer_start
        if reasoning := self._text.take_reasoning():
            logprobs = self._take_logprobs(min(released, answer_start))
            self._emit_reasoning(ReasoningPiece(reasoning, logprobs))
        if piece:
            self._emit_late_reasoning()
            self._emit_piece(TextPiece(piece, self._take_logprobs(released)))
        for call in self._text.take_calls():
            self._calls.append(call)
            self._emit(call)

    def _emit_late_reasoning(self) -> None:
        """Deliver log-probabilities of the tag that ends the reasoning, which has no text."""
        if logprobs := self._take_logprobs(self._text.answer_start):
            self._emit_reasoning(ReasoningPiece("", logprobs))

    def _emit_last_logprobs(self) -> None:
        """Deliver those of tokens without text, except for what a stop string has cut off."""
        self._emit_late_reasoning()
        end = self._text.released if self._text.stopped else math.inf
        if logprobs := self._take_logprobs(end):
            self._emit_piece(TextPiece("", logprobs))

    def _take_logprobs(self, end: float) -> tuple[TokenLogprob, ...]:
        """Return the log-probabilities of the tokens before a place in the decoded text."""
        taken = self._logprobs.take(end) if self._logprobs else ()
        return self._echo.after(taken) if self._echo else taken

    def _emit_piece(self, piece: TextPiece) -> None:
        self._pieces.append(piece)
        self._emit(replace(piece, usage=self._usage))

    def _emit_reasoning(self, piece: ReasoningPiece) -> None:
        self._reasoning.append(piece)
        self._emit(replace(piece, usage=self._usage))

    def _emit(self, event: Event) -> None:
        try:
            self._deliver(event)
        except Exception:  # one failing listener must not end the other requests of the batch
            _log.exception("a request is dropped: delivering its events failed")
            self.finished, self._deliver = True, lambda _: None


def _logprobs_of(pieces: Iterable[ReasoningPiece | TextPiece]) -> tuple[TokenLogprob, ...]:
    return tuple(logprob for piece in pieces for logprob in piece.logprobs)
