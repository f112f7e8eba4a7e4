"""What is better: goals of an objective, and the limits that the best point keeps."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from slmflow.metrics.evaluation_inputs import no_figure
from slmflow.metrics.figures import more_is_better

_GOAL = re.compile(r"(?:(max|min)\s+)?(\w+)")
_LIMIT = re.compile(r"(\w+)\s*(<=|>=|<|>)\s*([-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?)", re.IGNORECASE)
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Goal:
    """A column of the comparison, and whether more of it is wanted."""

    column: str
    more: bool

    def known(self, figures: Mapping[str, float]) -> bool:
        """Return whether its column was measured."""
        return self.column in figures

    def worth(self, figures: Mapping[str, float]) -> float:
        """Return how good figures, by column, are: more is better, minus infinity unmeasured."""
        if not self.known(figures):
            return float("-inf")
        return figures[self.column] if self.more else -figures[self.column]

    def __str__(self) -> str:
        """Return it as it is given."""
        return f"{'max' if self.more else 'min'} {self.column}"


@dataclass(frozen=True)
class Limit:
    """What a column of the comparison must be, e.g. `peak_rss_mb<2000`."""

    column: str
    sign: str
    bound: float

    def keeps(self, figures: Mapping[str, float]) -> bool:
        """Return whether figures, by column, are within it; what was not measured is not."""
        figure = figures.get(self.column)
        return figure is not None and _OPERATORS[self.sign](figure, self.bound)


def goals(text: str, columns: Sequence[str]) -> list[Goal]:
    """Return the goals of a text such as `max exact_match, latency_ms_p50`.

    Without `max` or `min` a figure is wanted as it is better. Raises ValueError, with every problem
    a line, for what is no goal and a name that is not among the columns.
    """
    found = [(part, _GOAL.fullmatch(part)) for part in _parts(text)]
    wrong = "write max or min and the name of a figure, such as min latency_ms_p50"
    _refuse([(part, m and m[2]) for part, m in found], columns, wrong)
    return [Goal(m[2], m[1] == "max" if m[1] else more_is_better(m[2])) for _, m in found if m]


def limits(text: str | None, columns: Sequence[str]) -> list[Limit]:
    """Return the limits of a text such as `peak_rss_mb<2000, exact_match>=0.9`; None has none.

    Raises ValueError as `goals` does.
    """
    found = [(part, _LIMIT.fullmatch(part)) for part in _parts(text)] if text is not None else []
    wrong = "write a figure, <, <=, > or >=, and a number, such as peak_rss_mb<2000"
    _refuse([(part, m and m[1]) for part, m in found], columns, wrong)
    return [Limit(m[1], m[2], float(m[3])) for _, m in found if m]


def front(figures: Sequence[Mapping[str, float]], wanted: Sequence[Goal]) -> list[bool]:
    """Return of each whether it is measured and no other is as good in all goals, better in one."""
    worths = [tuple(goal.worth(each) for goal in wanted) for each in figures]
    return [
        float("-inf") not in mine and not any(_dominates(other, mine) for other in worths)
        for mine in worths
    ]


def _dominates(other: Sequence[float], mine: Sequence[float]) -> bool:
    return other != mine and all(a >= b for a, b in zip(other, mine, strict=True))


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _refuse(found: Sequence[tuple[str, str | None]], columns: Sequence[str], wrong: str) -> None:
    problems = []
    for part, column in found:
        if column is None:
            problems.append(f"{part!r} cannot be read: {wrong}")
        elif column not in columns:
            problems.append(no_figure(column, columns))
    if problems:
        raise ValueError("\n".join(problems))
