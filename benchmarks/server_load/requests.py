"""The requests of a mixed load, and how an answer is compared with the one that was got alone."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile

from benchmarks.server_load.prompts import text

# Distinct ones: under load each is asked several times.
_QUESTIONS = 32
_WORDS, _MAX_TOKENS = (4, 16, 48, 128), (8, 16, 32, 64)
_SAMPLED, _LEFT = 0.3, 0.15


class Kind(Enum):
    """What becomes of an answer: of one that its client has left, what came is a beginning."""

    greedy = "greedy"
    sampled = "sampled"
    left = "left"


@dataclass(frozen=True)
class Question:
    """What is asked; without a seed the answer is greedy."""

    text: str
    max_tokens: int
    seed: int | None


@dataclass(frozen=True)
class Visit:
    """A question as a client asks it; `leaves_after`: pieces of the stream that it waits for."""

    question: Question
    stream: bool
    leaves_after: int | None = None

    @property
    def kind(self) -> Kind:
        """How its answer is compared."""
        if self.leaves_after is not None:
            return Kind.left
        return Kind.greedy if self.question.seed is None else Kind.sampled


@dataclass(frozen=True)
class Outcome:
    """What a client got.

    status: of HTTP, or the name of the client's error; same: whether the text is that got alone;
    common, expected: characters that both begin with, and of the one got alone; anothers: whether
    it is the answer to another question instead.
    """

    kind: str
    stream: bool
    status: str
    same: bool
    common: int
    expected: int
    anothers: bool


def plan(requests: int) -> list[Visit]:
    """Return the visits of a load, the same on every run."""
    chosen = random.Random(0)  # noqa: S311 (repeatable, not secret)
    questions = [
        Question(
            text(chosen.choice(_WORDS), number),
            chosen.choice(_MAX_TOKENS),
            number if chosen.random() < _SAMPLED else None,
        )
        for number in range(_QUESTIONS)
    ]
    left = round(_LEFT * requests)
    visits = [
        Visit(chosen.choice(questions), stream=True, leaves_after=chosen.randint(1, 4))
        if number < left
        else Visit(chosen.choice(questions), stream=chosen.random() < 0.5)
        for number in range(requests)
    ]
    chosen.shuffle(visits)
    return visits


def outcome(
    visit: Visit, status: str, got: str, expected: Mapping[Question, str], ended: bool = True
) -> Outcome:
    """Compare a text with the answers that were got alone; `ended`: whether it is all of it."""
    own = expected[visit.question]
    same = got == own if ended else own.startswith(got)
    others = {answer for question, answer in expected.items() if question != visit.question}
    return Outcome(
        kind=visit.kind.value,
        stream=visit.stream,
        status=status,
        same=same,
        common=_common(got, own),
        expected=len(own),
        anothers=not same and ended and got in others,
    )


def _common(one: str, other: str) -> int:
    """Return how many characters both texts begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
