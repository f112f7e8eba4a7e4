"""Goals and constraints over the columns of the comparison, and Pareto dominance."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from slmflow.metrics.evaluation_inputs import describe_unknown_column
from slmflow.metrics.model_metrics import is_higher_better

_GOAL = re.compile(r"(?:(max|min)\s+)?(\w+)")
_CONSTRAINT = re.compile(r"(\w+)\s*(<=|>=|<|>)\s*([-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?)", re.IGNORECASE)
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_UNMEASURED = float("-inf")


@dataclass(frozen=True)
class Goal:
    """A column of the comparison, to maximize or to minimize."""

    column: str
    maximize: bool

    def is_measured(self, metrics: Mapping[str, float]) -> bool:
        """Return whether the metrics, by column, have a value for the goal."""
        return self.column in metrics

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return a number that is higher for better metrics; minus infinity if not measured."""
        if not self.is_measured(metrics):
            return _UNMEASURED
        return metrics[self.column] if self.maximize else -metrics[self.column]

    def __str__(self) -> str:
        """Return the goal as the config writes it."""
        return f"{'max' if self.maximize else 'min'} {self.column}"


@dataclass(frozen=True)
class Constraint:
    """A bound on a column of the comparison, such as `peak_rss_mb<2000`."""

    column: str
    operator: str
    bound: float

    def is_met(self, metrics: Mapping[str, float]) -> bool:
        """Return whether the metrics, by column, satisfy it; an unmeasured column does not."""
        value = metrics.get(self.column)
        return value is not None and _OPERATORS[self.operator](value, self.bound)


def parse_goals(text: str, columns: Sequence[str]) -> list[Goal]:
    """Parse goals such as `max exact_match, latency_ms_p50`.

    Without `max` or `min` the column's own direction applies. Raises ValueError with one line for
    each part that is malformed or names an unknown column.
    """
    matches = [(part, _GOAL.fullmatch(part)) for part in _split(text)]
    hint = "write max or min and the name of a column, such as min latency_ms_p50"
    _validate([(part, m and m[2]) for part, m in matches], columns, hint)
    return [Goal(m[2], m[1] == "max" if m[1] else is_higher_better(m[2])) for _, m in matches if m]


def parse_fronts(text: str, columns: Sequence[str]) -> list[list[Goal]]:
    """Parse the goals of one Pareto front, or of several that semicolons separate.

    Raises ValueError as `parse_goals` does.
    """
    parse_goals(text.replace(";", ","), columns)  # raises with the problems of all
    return [parse_goals(front, columns) for front in text.split(";")]


def parse_constraints(text: str | None, columns: Sequence[str]) -> list[Constraint]:
    """Parse constraints such as `peak_rss_mb<2000, exact_match>=0.9`; None has none.

    Raises ValueError as `parse_goals` does.
    """
    parts = [] if text is None else _split(text)
    matches = [(part, _CONSTRAINT.fullmatch(part)) for part in parts]
    hint = "write a column, <, <=, > or >=, and a number, such as peak_rss_mb<2000"
    _validate([(part, m and m[1]) for part, m in matches], columns, hint)
    return [Constraint(m[1], m[2], float(m[3])) for _, m in matches if m]


def pareto_front(metrics: Sequence[Mapping[str, float]], goals: Sequence[Goal]) -> list[bool]:
    """Return for each point whether it is measured in all goals and no other dominates it."""
    scores = [tuple(goal.score(each) for goal in goals) for each in metrics]
    return [
        _UNMEASURED not in own and not any(_dominates(other, own) for other in scores)
        for own in scores
    ]


def _dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Return whether `a` is at least as good as `b` in all goals, and better in one."""
    return a != b and all(x >= y for x, y in zip(a, b, strict=True))


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _validate(parsed: Sequence[tuple[str, str | None]], columns: Sequence[str], hint: str) -> None:
    """Raise ValueError for each part without a known column."""
    problems = []
    for part, column in parsed:
        if column is None:
            problems.append(f"{part!r} is invalid: {hint}")
        elif column not in columns:
            problems.append(describe_unknown_column(column, columns))
    if problems:
        raise ValueError("\n".join(problems))
