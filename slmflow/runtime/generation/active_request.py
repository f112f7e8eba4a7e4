"""A request in progress: its prompt, the tokens generated so far, and where its events go."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from .checkpoint_settings import CheckpointSettings
from .detokenizer import CompletionText
from .events import Completion, Deliver, Event, PrefillStarted, ReasoningPiece, TextPiece, Usage
from .options import RequestOptions
from .reasoning import ReasoningFormat, ReasoningSplitter
from .sampling import NO_SETTINGS, Sampler

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


class ActiveRequest:
    """A request in progress. Only the generating thread may use it, except for `cancel`."""

    def __init__(
        self,
        prompt: Sequence[int],
        options: RequestOptions,
        max_new_tokens: int,
        model: ModelTraits,
        deliver: Deliver,
        reasoning: ReasoningFormat | None = None,
    ) -> None:
        """Generate at most `max_new_tokens` after the token ids of `prompt`.

        reasoning: how to recognize it; None leaves it in the text.
        """
        self.prompt, self.options, self.max_new_tokens = prompt, options, max_new_tokens
        self.generated: list[int] = []
        self.sampler = Sampler(options, prompt, model.settings, model.end_tokens)
        self.cancelled = False
        self.finished = False
        self.completion: Completion | None = None
        self.submitted_at = time.perf_counter()
        self._end_tokens, self._deliver = model.end_tokens, deliver
        splitter = ReasoningSplitter(reasoning) if reasoning else None
        self._text = CompletionText(model.tokenizer, options.stop, splitter)
        self._pieces: list[str] = []
        self._reasoning: list[str] = []
        self._prefill_at: float | None = None
        self._first_token_at: float | None = None

    @property
    def is_plain_greedy(self) -> bool:
        """Whether ONNX Runtime GenAI can choose the tokens itself: the most likely one each."""
        return self.options.is_greedy and self.sampler.keeps_logits and not self.options.guidance

    @property
    def remaining_tokens(self) -> int:
        """How many more tokens may be generated."""
        return self.max_new_tokens - len(self.generated)

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

    def append_token(self, token: int) -> None:
        """Add the next token, deliver the text that it completes, and finish where it ends."""
        if self._first_token_at is None:
            self._first_token_at = time.perf_counter()
        self.generated.append(token)
        self.sampler.record(token)
        if token in self._end_tokens:
            self.finish("stop")
            return
        self._emit_text(self._text.push(token))
        if self._text.stopped:
            self.finish("stop")
        elif self.remaining_tokens == 0:
            self.finish("length")

    def finish(self, reason: str) -> None:
        """Deliver the completion."""
        if not self._text.stopped:
            self._emit_text(self._text.flush())
            reason = "stop" if self._text.stopped else reason
        self.finished = True
        now = time.perf_counter()
        prompt, generated = len(self.prompt), len(self.generated)
        self.completion = Completion(
            text="".join(self._pieces),
            finish_reason=reason,
            usage=Usage(
                prompt_tokens=prompt, completion_tokens=generated, total_tokens=prompt + generated
            ),
            queue_s=(self._prefill_at or now) - self.submitted_at,
            first_token_s=(self._first_token_at or now) - self.submitted_at,
            total_s=now - self.submitted_at,
            ended_ns=time.time_ns(),
            reasoning="".join(self._reasoning),
        )
        self._emit(self.completion)

    def fail(self, error: Exception) -> None:
        """Deliver an error instead of a completion."""
        self.finished = True
        self._emit(error)

    def _emit_text(self, piece: str) -> None:
        if reasoning := self._text.take_reasoning():
            self._reasoning.append(reasoning)
            self._emit(ReasoningPiece(reasoning))
        if piece:
            self._pieces.append(piece)
            self._emit(TextPiece(piece))

    def _emit(self, event: Event) -> None:
        try:
            self._deliver(event)
        except Exception:  # one failing listener must not end the other requests of the batch
            _log.exception("a request is dropped: delivering its events failed")
            self.finished, self._deliver = True, lambda _: None
