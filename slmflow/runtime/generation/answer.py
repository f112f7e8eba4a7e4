"""One answer under way: what was asked, what was said so far, and who is told."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from .detokenizer import AnswerText
from .options import Options
from .sampling import Sampler


@dataclass(frozen=True)
class Answer:
    """A finished answer.

    finish_reason: "stop" at an end token or a stop string, "length" at `max_tokens` or where the
    context is full, "cancelled". The counts are tokens, those of the answer with its end token.
    waited_s: seconds until the model took the prompt; first_token_s, seconds: until the first and
    the last token, all since it was asked; ended_ns: when it was finished, in Unix time.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    waited_s: float
    first_token_s: float
    seconds: float
    ended_ns: int


def together(answers: Sequence[Answer], text: str) -> Answer:
    """Return the answers to one request as one: their tokens, from the first to the last of them.

    `text` is what all of them became.
    """
    return Answer(
        text=text,
        finish_reason=", ".join(sorted({answer.finish_reason for answer in answers})),
        prompt_tokens=sum(answer.prompt_tokens for answer in answers),
        completion_tokens=sum(answer.completion_tokens for answer in answers),
        waited_s=min(answer.waited_s for answer in answers),
        first_token_s=min(answer.first_token_s for answer in answers),
        seconds=max(answer.seconds for answer in answers),
        ended_ns=max(answer.ended_ns for answer in answers),
    )


@dataclass(frozen=True)
class Taken:
    """The model begins to read the prompt."""


Event = Taken | str | Answer | Exception
"""What happens to an answer: taken, a piece of its text, and at last all, or why there is none."""

Deliver = Callable[[Event], None]

_log = logging.getLogger(__name__)


class Job:
    """An answer under way. All but `cancel` belongs to the thread that generates."""

    def __init__(
        self,
        prompt: Sequence[int],
        options: Options,
        room: int,
        tokenizer: Tokenizer,
        ends: frozenset[int],
        deliver: Deliver,
    ) -> None:
        """Ask for at most `room` tokens after `prompt`; `ends` are the model's end tokens."""
        self.prompt, self.options, self.room = prompt, options, room
        self.said: list[int] = []
        self.sampler = Sampler(options, prompt)
        self.cancelled = False
        self.finished = False
        self.answer: Answer | None = None
        self._ends, self._deliver = ends, deliver
        self._text = AnswerText(tokenizer, options.stop)
        self._pieces: list[str] = []
        self.asked = time.perf_counter()
        self._taken: float | None = None
        self._first: float | None = None

    @property
    def plain(self) -> bool:
        """Whether each token is the most likely one, so that the runtime itself can choose it."""
        return self.options.greedy and not self.options.penalized and self.options.schema is None

    @property
    def left(self) -> int:
        """How many tokens more there may be."""
        return self.room - len(self.said)

    def cancel(self) -> None:
        """Want no more of it; the answer so far is delivered before long."""
        self.cancelled = True

    def give_up_if_cancelled(self) -> None:
        """Deliver what there is, if no more is wanted."""
        if self.cancelled and not self.finished:
            self.finish("cancelled")

    def taken(self) -> None:
        """Note that the model reads the prompt; it may do so again."""
        if self._taken is None:
            self._taken = time.perf_counter()
            self._tell(Taken())

    def say(self, token: int) -> None:
        """Take the next token, deliver what it adds to the text, and the answer where it ends."""
        if self._first is None:
            self._first = time.perf_counter()
        self.said.append(token)
        self.sampler.said(token)
        if token in self._ends:
            self.finish("stop")
            return
        self._give(self._text.push(token))
        if self._text.stopped:
            self.finish("stop")
        elif self.left == 0:
            self.finish("length")

    def finish(self, reason: str) -> None:
        """Deliver the answer."""
        if not self._text.stopped:
            self._give(self._text.rest())
            reason = "stop" if self._text.stopped else reason
        self.finished = True
        now = time.perf_counter()
        self.answer = Answer(
            text="".join(self._pieces),
            finish_reason=reason,
            prompt_tokens=len(self.prompt),
            completion_tokens=len(self.said),
            waited_s=(self._taken or now) - self.asked,
            first_token_s=(self._first or now) - self.asked,
            seconds=now - self.asked,
            ended_ns=time.time_ns(),
        )
        self._tell(self.answer)

    def fail(self, error: Exception) -> None:
        """Deliver why there is no answer."""
        self.finished = True
        self._tell(error)

    def _give(self, piece: str) -> None:
        if piece:
            self._pieces.append(piece)
            self._tell(piece)

    def _tell(self, event: Event) -> None:
        try:
            self._deliver(event)
        except Exception:  # the fault of one who listens must not end the answers of all others
            _log.exception("an answer is given up: its listener failed")
            self.finished, self._deliver = True, lambda _: None
