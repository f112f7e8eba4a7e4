"""Decide which requests are decoded together: the batches with the least total time."""

from collections.abc import Callable, Sequence

from ..generation.active_request import ActiveRequest
from ..generation.engine import padded_tokens
from .cost_model import CostModel

CanBatch = Callable[[Sequence[ActiveRequest]], bool]
CountUnread = Callable[[Sequence[ActiveRequest]], int]

# Expected number of remaining tokens of a request: few use all of their max_tokens.
_EXPECTED_TOKENS = 128


def remaining_steps(requests: Sequence[ActiveRequest]) -> int:
    """Return how many more decode steps a batch is expected to take."""
    return max(min(each.remaining_tokens, _EXPECTED_TOKENS) for each in requests)


def plan_next_batch(
    waiting: Sequence[ActiveRequest],
    can_batch: CanBatch,
    costs: CostModel,
    count_unread: CountUnread = padded_tokens,
) -> list[ActiveRequest]:
    """Return the batch of the oldest request in the plan that takes the least total time.

    `waiting` is in order of arrival. More batches have less padding, and a single request may go on
    from a prefix that is read already, but each batch takes its own steps. The plan splits the
    requests, sorted by length, into contiguous batches by dynamic programming.

    count_unread: how many tokens a prefill reads, padding included.
    """
    # Those with one adapter side by side, because only they may be batched.
    ordered = sorted(waiting, key=lambda each: (each.options.adapter or "", each.read_length))
    # For the first n requests: the least total time, and the start of their last batch. Of equal
    # plans the smallest start is taken, so that the earlier batches are full.
    least_s, starts = [0.0], [0]
    for end in range(1, len(ordered) + 1):
        seconds, start = min(
            (
                (least_s[start] + _batch_s(ordered[start:end], costs, count_unread), start)
                for start in _possible_starts(ordered, end, can_batch)
            ),
            key=lambda plan: (plan[0], -plan[1]),
        )
        least_s.append(seconds)
        starts.append(start)
    oldest, end = ordered.index(waiting[0]), len(ordered)
    while starts[end] > oldest:
        end = starts[end]
    return ordered[starts[end] : end]


def is_merge_faster(
    new: Sequence[ActiveRequest],
    running: Sequence[ActiveRequest],
    can_batch: CanBatch,
    costs: CostModel,
    unread: int,
) -> bool:
    """Return whether restarting a running batch with new requests beats a second batch.

    unread: the prompt tokens that either way saves from being read later: those of a second batch,
    and those that the running batch has still to read.
    """
    merged = [*running, *new]
    if not can_batch(merged):
        return False
    shared_steps = min(remaining_steps(new), remaining_steps(running))
    separate_s = costs.prefill_s(unread) + costs.step_overhead_s * shared_steps
    return restart_s(merged, costs) < separate_s


def restart_s(requests: Sequence[ActiveRequest], costs: CostModel) -> float:
    """Return the seconds to prefill these requests as a new batch and replay their tokens."""
    replayed = max(len(each.generated) - each.settled for each in requests)
    return costs.prefill_s(padded_tokens(requests)) + replayed * costs.step_s(len(requests))


def _batch_s(
    requests: Sequence[ActiveRequest], costs: CostModel, count_unread: CountUnread
) -> float:
    """Return the seconds of a batch, without the cost per row, which any plan has."""
    steps_s = costs.step_overhead_s * remaining_steps(requests)
    return costs.prefill_s(count_unread(requests)) + steps_s


def _possible_starts(
    ordered: Sequence[ActiveRequest], end: int, can_batch: CanBatch
) -> Sequence[int]:
    """Return where the last batch of the first `end` requests may start."""
    start = end - 1
    while start > 0 and can_batch(ordered[start - 1 : end]):
        start -= 1
    return range(start, end)
