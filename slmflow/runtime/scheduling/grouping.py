"""Which answers are generated together: where that costs least."""

from collections.abc import Callable, Sequence

from ..generation.answer import Job
from .costs import Costs

Fit = Callable[[Sequence[Job]], bool]

# How many tokens an answer is taken to have left: few say all that they may.
_LIKELY = 128


def padded(jobs: Sequence[Job]) -> int:
    """Return how many tokens are read for these as a batch: each prompt as long as the longest."""
    return len(jobs) * max(len(job.prompt) for job in jobs)


def steps_left(jobs: Sequence[Job]) -> int:
    """Return how many steps more a batch of these is likely to take."""
    return max(min(job.left, _LIKELY) for job in jobs)


def with_first(jobs: Sequence[Job], fit: Fit, costs: Costs) -> list[Job]:
    """Return the batch that the first of some jobs is in, where all are answered in the least time.

    More batches have less padding, and each its own steps. `fit` tells which may be one.
    """
    ordered = sorted(jobs, key=lambda job: len(job.prompt))
    # Of the first so many: the least time that they take, and where the last of their batches
    # begins; of equal ones the smallest, so that those before it are full.
    least_s, begins = [0.0], [0]
    for end in range(1, len(ordered) + 1):
        seconds, begin = min(
            ((least_s[b] + _batch_s(ordered[b:end], costs), b) for b in _begins(ordered, end, fit)),
            key=lambda found: (found[0], -found[1]),
        )
        least_s.append(seconds)
        begins.append(begin)
    place, end = ordered.index(jobs[0]), len(ordered)
    while begins[end] > place:
        end = begins[end]
    return ordered[begins[end] : end]


def cheaper_joined(come: Sequence[Job], running: Sequence[Job], fit: Fit, costs: Costs) -> bool:
    """Return whether who comes should be one batch with those who run, and these begin anew."""
    both = [*running, *come]
    if not fit(both):
        return False
    shared = min(steps_left(come), steps_left(running))
    apart_s = costs.reading_s(padded(come)) + costs.own_s * shared
    return anew_s(both, costs) < apart_s


def anew_s(jobs: Sequence[Job], costs: Costs) -> float:
    """Return how long it takes to bring a new batch of these to where they are."""
    said = max(len(job.said) for job in jobs)
    return costs.reading_s(padded(jobs)) + said * costs.step_s(len(jobs))


def _batch_s(jobs: Sequence[Job], costs: Costs) -> float:
    """Return how long a batch takes, but for what its rows take in any batch."""
    return costs.reading_s(padded(jobs)) + costs.own_s * steps_left(jobs)


def _begins(ordered: Sequence[Job], end: int, fit: Fit) -> list[int]:
    """Return where the last batch of the first `end` may begin."""
    begin = end - 1
    while begin > 0 and fit(ordered[begin - 1 : end]):
        begin -= 1
    return list(range(begin, end))
