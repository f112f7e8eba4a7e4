"""Prune points that cannot become Pareto-optimal, whatever their remaining rows are like.

While a converted model is measured, its metrics are bounded: a mean of scores from 0 to 1 cannot
exceed its value if all remaining rows score 1, nor a latency fall below its value if the remaining
timed rows take no time. If an already measured point dominates these bounds in the two goals of
`sweep.front`, the remaining rows cannot change the front.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from slmflow.datasets.rows import Row
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, Timing
from slmflow.metrics.performance import latency_percentiles, to_megabytes
from slmflow.metrics.scoring import METRICS, TEXTS
from slmflow.sweeps import goals
from slmflow.sweeps.goals import Goal

_SHARES = tuple(m for m in METRICS if m.is_share and m.columns == TEXTS)


class PointPruned(Exception):
    """Raised to prune a point; `bounds` are the best metrics, by column, that it could reach."""

    def __init__(self, name: str, bounds: dict[str, float], rows: str) -> None:
        """name: the dominating point's; rows: how many of all rows were answered."""
        super().__init__(f"after {rows} rows it cannot beat {name} in either goal")
        self.bounds = bounds


@dataclass(frozen=True)
class Progress:
    """What is measured of a model so far.

    answers: by row; timed_rows: how many timings there will be.
    """

    model: MeasuredModel
    rows: Sequence[Row]
    answers: Mapping[int, Answer]
    timings: Collection[Timing]
    timed_rows: int


@dataclass(frozen=True)
class Pruner:
    """The two goals, and the metrics by column of each measured point, by its name."""

    goals: tuple[Goal, ...]
    measured: dict[str, dict[str, float]]

    def check(self, progress: Progress) -> None:
        """Raise PointPruned if what is measured of a model so far rules out the front."""
        bounds = optimistic_bounds(progress)
        if not all(goal.is_measured(bounds) for goal in self.goals):
            return
        for name, metrics in self.measured.items():
            if not goals.pareto_front([bounds, metrics], self.goals)[0]:
                reached = {goal.column: bounds[goal.column] for goal in self.goals}
                answered = f"{len(progress.answers)} of {len(progress.rows)}"
                raise PointPruned(name, reached, answered)


def optimistic_bounds(progress: Progress) -> dict[str, float]:
    """Return, by column, the best metrics a model can reach, for those that have a bound."""
    rows, answers = progress.rows, progress.answers
    remaining = len(rows) - len(answers)
    texts = [
        (answer.text, rows[number].answer, tuple(rows[number].other_answers or ()))
        for number, answer in answers.items()
    ]
    scores = {m.name: sum(m.statistics(*row)[0] for row in texts) for m in _SHARES}
    instant = [Timing(0, 0.0, None, None, None)] * (progress.timed_rows - len(progress.timings))
    latencies = latency_percentiles([*progress.timings, *instant])
    costs = {**latencies, "model_size_mb": to_megabytes(progress.model.size_bytes)}
    return {
        **{name: (score + remaining) / len(rows) for name, score in scores.items()},
        **{name: cost for name, cost in costs.items() if cost is not None},
    }
