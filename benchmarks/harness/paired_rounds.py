"""Measure two or more functions in alternating rounds.

A shared machine changes its speed within seconds, which then affects both alike.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

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
    functions: dict[str, Callable[[int], Any]] = {"first": first, "second": second}
    results = alternate_all(label, functions, rounds)
    return results["first"], results["second"]


def alternate_all(
    label: str, functions: Mapping[str, Callable[[int], A]], rounds: int
) -> dict[str, tuple[A, ...]]:
    """Return the results of each function in each round, by its name; as `alternate`."""
    results: dict[str, list[A]] = {name: [] for name in functions}
    names = list(functions)
    with progress_bars.item_bar() as progress:
        for number in progress.track(range(WARM_UPS + rounds), description=label):
            for name in names:
                results[name].append(functions[name](number))
            names.reverse()
    return {name: tuple(each[WARM_UPS:]) for name, each in results.items()}
