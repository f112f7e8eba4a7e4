"""The requests of a mixed load, and how a response is compared with its baseline."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from benchmarks.server_load.prompts import random_text
from slmflow.runtime.readings import common_length

# Distinct questions: the load repeats each several times.
_QUESTIONS = 32
_WORDS, _MAX_TOKENS = (4, 16, 48, 128), (8, 16, 32, 64)
_SAMPLED_SHARE, _ABANDONED_SHARE = 0.3, 0.15


class Kind(Enum):
    """How a response is generated, or that its client abandons it."""

    greedy = "greedy"
    sampled = "sampled"
    abandoned = "abandoned"


@dataclass(frozen=True)
class Question:
    """A prompt with its options. Without a seed, the completion is greedy."""

    text: str
    max_tokens: int
    seed: int | None


@dataclass(frozen=True)
class PlannedRequest:
    """A question as a client sends it. It disconnects after `max_pieces` pieces, if set."""

    question: Question
    stream: bool
    max_pieces: int | None = None

    @property
    def kind(self) -> Kind:
        """How its response is compared."""
        if self.max_pieces is not None:
            return Kind.abandoned
        return Kind.greedy if self.question.seed is None else Kind.sampled


@dataclass(frozen=True)
class Outcome:
    """What a client received.

    status: of HTTP, or the name of the client's error. same: whether the text equals the baseline,
    the response without load. common, expected: characters of their common prefix, and of the
    baseline. is_other_baseline: whether it equals the baseline of another question instead.
    """

    kind: str
    stream: bool
    status: str
    same: bool
    common: int
    expected: int
    is_other_baseline: bool


def plan(requests: int) -> list[PlannedRequest]:
    """Return the requests of a load, the same in every run."""
    rng = random.Random(0)  # noqa: S311 (repeatable, not secret)
    questions = [
        Question(
            random_text(rng.choice(_WORDS), number),
            rng.choice(_MAX_TOKENS),
            number if rng.random() < _SAMPLED_SHARE else None,
        )
        for number in range(_QUESTIONS)
    ]
    abandoned = round(_ABANDONED_SHARE * requests)
    planned = [
        PlannedRequest(rng.choice(questions), stream=True, max_pieces=rng.randint(1, 4))
        if number < abandoned
        else PlannedRequest(rng.choice(questions), stream=rng.random() < 0.5)
        for number in range(requests)
    ]
    rng.shuffle(planned)
    return planned


def compare(
    request: PlannedRequest,
    status: str,
    text: str,
    baselines: Mapping[Question, str],
    is_complete: bool = True,
) -> Outcome:
    """Compare a response with its baseline; an incomplete one with the start of it."""
    baseline = baselines[request.question]
    same = text == baseline if is_complete else baseline.startswith(text)
    others = {other for question, other in baselines.items() if question != request.question}
    return Outcome(
        kind=request.kind.value,
        stream=request.stream,
        status=status,
        same=same,
        common=common_length(text, baseline),
        expected=len(baseline),
        is_other_baseline=not same and is_complete and text in others,
    )
