"""Planned batches, compared with every possible partition."""

import random
from collections.abc import Iterator, Sequence

import pytest

from slmflow.runtime.generation.active_request import ActiveRequest
from slmflow.runtime.generation.engine import padded_tokens
from slmflow.runtime.scheduling.batch_planning import plan_next_batch, remaining_steps
from slmflow.runtime.scheduling.cost_model import CostModel
from tests.runtime.active_requests import active_request

MAX_ROWS = 4

Requests = Sequence[ActiveRequest]


def can_batch(requests: Requests) -> bool:
    return len(requests) <= MAX_ROWS


def prompt_lengths(requests: Requests) -> list[int]:
    return [len(each.prompt) for each in requests]


def partitions(requests: list[ActiveRequest]) -> Iterator[list[list[ActiveRequest]]]:
    if not requests:
        yield []
        return
    first, rest = requests[0], requests[1:]
    for others in partitions(rest):
        yield [[first], *others]
        for index, batch in enumerate(others):
            if len(batch) < MAX_ROWS:
                yield [*others[:index], [first, *batch], *others[index + 1 :]]


def total_s(batches: Sequence[Requests], costs: CostModel) -> float:
    return sum(
        costs.prefill_s(padded_tokens(batch)) + costs.step_overhead_s * remaining_steps(batch)
        for batch in batches
    )


@pytest.mark.parametrize("seed", range(8))
def test_no_other_partition_is_faster(seed: int) -> None:
    numbers = random.Random(seed)  # noqa: S311 (repeatable, not secret)
    requests = [active_request(numbers.randint(5, 200), 40) for _ in range(7)]
    costs, waiting, batches = CostModel(), list(requests), list[list[ActiveRequest]]()
    while waiting:
        batches.append(plan_next_batch(waiting, can_batch, costs))
        assert waiting[0] in batches[-1]
        waiting = [each for each in waiting if each not in batches[-1]]
    least = min(total_s(partition, costs) for partition in partitions(requests))
    assert total_s(batches, costs) == pytest.approx(least)


def test_long_prompt_is_not_batched_with_short_ones() -> None:
    requests = [active_request(tokens, 20) for tokens in (20, 900, 22, 21)]
    assert prompt_lengths(plan_next_batch(requests, can_batch, CostModel())) == [20, 21, 22]
    assert prompt_lengths(plan_next_batch(requests[1:], can_batch, CostModel())) == [900]


def test_equal_prompts_fill_batches() -> None:
    requests = [active_request(20, 20) for _ in range(6)]
    assert len(plan_next_batch(requests, can_batch, CostModel())) == MAX_ROWS
