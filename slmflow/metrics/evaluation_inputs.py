"""The inputs of an evaluation: the rows and the user's metrics."""

from collections.abc import Sequence
from dataclasses import dataclass

from slmflow.config.overrides import did_you_mean
from slmflow.config.schema.config import Config
from slmflow.datasets import rows
from slmflow.datasets.rows import Row
from slmflow.metrics import user_metrics
from slmflow.metrics.model_metrics import NUMERIC_COLUMNS
from slmflow.metrics.user_metrics import UserMetric


@dataclass(frozen=True)
class EvaluationInputs:
    """The rows to answer, and the user's metrics."""

    rows: list[Row]
    user_metrics: list[UserMetric]


def read(config: Config) -> EvaluationInputs:
    """Read the rows and import the user's metrics. Raises UserError if any are invalid."""
    data = rows.read(config)
    return EvaluationInputs(data, user_metrics.load(config.evaluation.metrics, data[0].answer))


def numeric_columns(config: Config) -> list[str]:
    """Return the columns of the comparison that hold a number, the user's metrics last."""
    return [*NUMERIC_COLUMNS, *(spec.rpartition(":")[2] for spec in config.evaluation.metrics)]


def describe_unknown_column(name: str, known: Sequence[str]) -> str:
    """Return an error message for a name that is not a known column."""
    return f"{name}: not a metric.{did_you_mean(name, known)} The metrics are {', '.join(known)}."
