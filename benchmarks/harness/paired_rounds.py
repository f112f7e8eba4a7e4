"""Measure two functions in alternating rounds.

A shared machine changes its speed within seconds, which then affects both alike.
"""

from collections.abc import Callable
from typing import TypeVar

from benchmarks.harness.engine_rounds import WARM_UPS
from slmflow.console import progress_bars

A = TypeVar("A")
B = TypeVar("B")


def alternate(
    label: str, first: Callable[[int], A], second: Callable[[int], B], rounds: int
) -> tuple[tuple[A, ...], tuple[B, ...]]:
    """Return the results of both functions in each round, warm-up rounds left out.

    Each is called with the number of the round; their order changes from round to round.
    """
    first_results: list[A] = []
    second_results: list[B] = []
    calls: list[Callable[[int], None]] = [
        lambda number: first_results.append(first(number)),
        lambda number: second_results.append(second(number)),
    ]
    with progress_bars.item_bar() as progress:
        for number in progress.track(range(WARM_UPS + rounds), description=label):
            for call in calls:
                call(number)
            calls.reverse()
    return tuple(first_results[WARM_UPS:]), tuple(second_results[WARM_UPS:])
