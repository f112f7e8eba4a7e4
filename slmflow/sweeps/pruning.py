"""Give up a point that cannot reach the front any more, whatever its other rows are like.

After each turn of measuring, the figures that bound a converted model's are known: a mean of scores
from 0 to 1 can come to what it is if all other rows score 1, a latency to what it is if they take
no time. Where a point that was measured before is as good as these in both goals of `sweep.front`
and better in one, the rest cannot change the front.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from slmflow.datasets.rows import Row
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer
from slmflow.metrics.costs import latencies, megabytes
from slmflow.metrics.scoring import METRICS
from slmflow.sweeps import goals
from slmflow.sweeps.goals import Goal

_SHARES = tuple(m for m in METRICS if m.share and m.columns == ("prediction", "answer"))
_NO_TIME = Answer("", 0.0, None, None, None)


class Pruned(Exception):
    """A point that is given up: `best` are the figures that it could have come to, by column."""

    def __init__(self, name: str, best: dict[str, float], rows: str) -> None:
        """name: of the point that is better; rows: how many of all were asked."""
        super().__init__(f"after {rows} rows it cannot be better than {name} in either goal")
        self.best = best


@dataclass(frozen=True)
class Front:
    """The two goals, and the figures of the points measured before, by the point's name."""

    goals: tuple[Goal, ...]
    rivals: dict[str, dict[str, float]]

    def check(self, model: MeasuredModel, answers: Sequence[Answer], rows: Sequence[Row]) -> None:
        """Raise Pruned where the answers so far, of the first of the rows, cannot lead there."""
        best = best_case(model, answers, rows)
        if not all(goal.known(best) for goal in self.goals):
            return
        for name, rival in self.rivals.items():
            if not goals.front([best, rival], self.goals)[0]:
                asked = f"{len(answers)} of {len(rows)}"
                raise Pruned(name, {goal.column: best[goal.column] for goal in self.goals}, asked)


def best_case(
    model: MeasuredModel, answers: Sequence[Answer], rows: Sequence[Row]
) -> dict[str, float]:
    """Return the best figures that a model can come to, by column: of those that can be bounded.

    answers: to the first of the rows.
    """
    left = len(rows) - len(answers)
    told = [(answer.text, row.answer) for answer, row in zip(answers, rows, strict=False)]
    scores = {m.name: sum(m.numbers(*texts)[0] for texts in told) for m in _SHARES}
    sizes = {"model_size_mb": megabytes(model.size_bytes)}
    costs = {**latencies([*answers, *[_NO_TIME] * left]), **sizes}
    return {
        **{name: (score + left) / len(rows) for name, score in scores.items()},
        **{name: figure for name, figure in costs.items() if figure is not None},
    }
