"""What lm-evaluation-harness measured of one model, as dataclasses and as JSON."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

NO_FILTER = "none"
"""The harness's name of the filter that leaves answers as they are."""


@dataclass(frozen=True)
class TaskColumn:
    """A metric of a task or group of tasks, which becomes a column of the comparison.

    filter: how the task extracts an answer from the generated text; aggregation: the harness's name
    of the function from the scores of all rows to the metric.
    """

    task: str
    metric: str
    filter: str
    shots: int
    aggregation: str
    higher_is_better: bool

    @property
    def name(self) -> str:
        """The column's name, e.g. `arc_easy_acc` or `gsm8k_exact_match_strict_match`."""
        parts = [self.task, self.metric, *([self.filter] if self.filter != NO_FILTER else [])]
        return re.sub(r"\W+", "_", "_".join(parts), flags=re.ASCII).strip("_")


@dataclass(frozen=True)
class TaskMetric:
    """The value of a metric, as the harness computes it.

    rows: two numbers of each row, whose sums over all rows determine the value: its score and
    weight. Empty for a metric of another form.
    """

    column: TaskColumn
    value: float
    rows: tuple[tuple[float, float], ...]

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the metric in a JSON object."""
        rows = tuple((score, weight) for score, weight in fields["rows"])
        return cls(TaskColumn(**fields["column"]), fields["value"], rows)


@dataclass(frozen=True)
class TaskResults:
    """All metrics of a model.

    row_count: the rows of all tasks; digest: the sha256 of these rows.
    """

    metrics: tuple[TaskMetric, ...]
    row_count: int
    digest: str

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the results in a JSON object."""
        return cls(**fields | {"metrics": tuple(map(TaskMetric.from_json, fields["metrics"]))})


def duplicate_names(columns: Sequence[TaskColumn]) -> list[str]:
    """Return the names that several columns have."""
    names = [column.name for column in columns]
    return sorted({name for name in names if names.count(name) > 1})
