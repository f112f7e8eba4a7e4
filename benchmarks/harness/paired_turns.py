"""Two ways to do the same, measured in turns.

A machine that is shared changes its speed within seconds, and so slows down both of them alike.
"""

from collections.abc import Callable
from typing import TypeVar

from benchmarks.harness.rounds import WARM_UPS
from slmflow.console import messages

A = TypeVar("A")
B = TypeVar("B")


def alternate(
    what: str, one: Callable[[int], A], other: Callable[[int], B], rounds: int
) -> tuple[tuple[A, ...], tuple[B, ...]]:
    """Return what both gave in each round, those to warm up left out.

    Both are called with the number of the round, and in the next round in the other order.
    """
    ones: list[A] = []
    others: list[B] = []
    calls: list[Callable[[int], None]] = [
        lambda number: ones.append(one(number)),
        lambda number: others.append(other(number)),
    ]
    with messages.counting() as progress:
        for number in progress.track(range(WARM_UPS + rounds), description=what):
            for call in calls:
                call(number)
            calls.reverse()
    return tuple(ones[WARM_UPS:]), tuple(others[WARM_UPS:])
