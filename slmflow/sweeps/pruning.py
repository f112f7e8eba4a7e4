"""Prune points that cannot become Pareto-optimal, whatever their remaining rows are like.

After each turn of measuring, the metrics of a converted model are bounded: a mean of scores from 0
to 1 cannot exceed its value if all remaining rows score 1, nor a latency fall below its value if
they take no time. If an already measured point dominates these bounds in the two goals of
`sweep.front`, the remaining rows cannot change the front.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from slmflow.datasets.rows import Row
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer
from slmflow.metrics.performance import latency_percentiles, to_megabytes
from slmflow.metrics.scoring import METRICS
from slmflow.sweeps import goals
from slmflow.sweeps.goals import Goal

_SHARES = tuple(m for m in METRICS if m.is_share and m.columns == ("prediction", "answer"))
_INSTANT_ANSWER = Answer("", 0.0, None, None, None)


class PointPruned(Exception):
    """Raised to prune a point; `bounds` are the best metrics, by column, that it could reach."""

    def __init__(self, name: str, bounds: dict[str, float], rows: str) -> None:
        """name: the dominating point's; rows: how many of all rows were answered."""
        super().__init__(f"after {rows} rows it cannot beat {name} in either goal")
        self.bounds = bounds


@dataclass(frozen=True)
class Pruner:
    """The two goals, and the metrics by column of each measured point, by its name."""

    goals: tuple[Goal, ...]
    measured: dict[str, dict[str, float]]

    def check(self, model: MeasuredModel, answers: Sequence[Answer], rows: Sequence[Row]) -> None:
        """Raise PointPruned if the model's answers to the first rows rule out the front."""
        bounds = optimistic_bounds(model, answers, rows)
        if not all(goal.is_measured(bounds) for goal in self.goals):
            return
        for name, metrics in self.measured.items():
            if not goals.pareto_front([bounds, metrics], self.goals)[0]:
                progress = f"{len(answers)} of {len(rows)}"
                raise PointPruned(name, {g.column: bounds[g.column] for g in self.goals}, progress)


def optimistic_bounds(
    model: MeasuredModel, answers: Sequence[Answer], rows: Sequence[Row]
) -> dict[str, float]:
    """Return, by column, the best metrics a model can reach, for those that have a bound.

    answers: to the first of the rows.
    """
    remaining = len(rows) - len(answers)
    pairs = [(answer.text, row.answer) for answer, row in zip(answers, rows, strict=False)]
    scores = {m.name: sum(m.statistics(*pair)[0] for pair in pairs) for m in _SHARES}
    latencies = latency_percentiles([*answers, *[_INSTANT_ANSWER] * remaining])
    costs = {**latencies, "model_size_mb": to_megabytes(model.size_bytes)}
    return {
        **{name: (score + remaining) / len(rows) for name, score in scores.items()},
        **{name: cost for name, cost in costs.items() if cost is not None},
    }
