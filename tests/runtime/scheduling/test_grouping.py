"""Which batches answers are put into: compared with every way that there is."""

import random
from collections.abc import Iterator, Sequence

import pytest

from slmflow.runtime.generation.answer import Job
from slmflow.runtime.scheduling.costs import Costs
from slmflow.runtime.scheduling.grouping import padded, steps_left, with_first
from tests.runtime.jobs import job

ROWS = 4


def fit(jobs: Sequence[Job]) -> bool:
    return len(jobs) <= ROWS


def lengths(jobs: Sequence[Job]) -> list[int]:
    return [len(job.prompt) for job in jobs]


def partitions(jobs: list[Job]) -> Iterator[list[list[Job]]]:
    if not jobs:
        yield []
        return
    first, rest = jobs[0], jobs[1:]
    for others in partitions(rest):
        yield [[first], *others]
        for place, group in enumerate(others):
            if len(group) < ROWS:
                yield [*others[:place], [first, *group], *others[place + 1 :]]


def seconds(groups: Sequence[Sequence[Job]], costs: Costs) -> float:
    return sum(costs.reading_s(padded(g)) + costs.own_s * steps_left(g) for g in groups)


@pytest.mark.parametrize("seed", range(8))
def test_no_other_way_takes_less_time(seed: int) -> None:
    chosen = random.Random(seed)  # noqa: S311 (repeatable, not secret)
    jobs = [job(chosen.randint(5, 200), 40) for _ in range(7)]
    costs, left, groups = Costs(), list(jobs), list[list[Job]]()
    while left:
        groups.append(with_first(left, fit, costs))
        assert left[0] in groups[-1]
        left = [each for each in left if each not in groups[-1]]
    least = min(seconds(way, costs) for way in partitions(jobs))
    assert seconds(groups, costs) == pytest.approx(least)


def test_like_lengths_are_together_and_a_long_one_is_not_padded_for() -> None:
    jobs = [job(tokens, 20) for tokens in (20, 900, 22, 21)]
    assert lengths(with_first(jobs, fit, Costs())) == [20, 21, 22]
    assert lengths(with_first(jobs[1:], fit, Costs())) == [900]


def test_where_all_are_alike_batches_are_full() -> None:
    assert len(with_first([job(20, 20) for _ in range(6)], fit, Costs())) == ROWS
