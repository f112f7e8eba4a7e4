"""What an evaluation is given: the rows, and the metrics of the user's own."""

from collections.abc import Sequence
from dataclasses import dataclass

from slmflow.config.overrides import did_you_mean
from slmflow.config.schema.config import Config
from slmflow.datasets import rows
from slmflow.datasets.rows import Row
from slmflow.metrics import user_metrics
from slmflow.metrics.model_metrics import COLUMNS, NUMERIC_COLUMNS
from slmflow.metrics.user_metrics import UserMetric


@dataclass(frozen=True)
class EvaluationInputs:
    """The rows that are asked, and further metrics."""

    rows: list[Row]
    metrics: list[UserMetric]


def read(config: Config) -> EvaluationInputs:
    """Read the rows and import the metrics. Raises UserError, before any work, for bad ones."""
    asked = rows.read(config)
    return EvaluationInputs(
        asked, user_metrics.load(config.evaluation.metrics, COLUMNS, asked[0].answer)
    )


def numeric_columns(config: Config) -> list[str]:
    """Return the columns of the comparison that hold a number, a metric of the user's own last."""
    return [*NUMERIC_COLUMNS, *(where.rpartition(":")[2] for where in config.evaluation.metrics)]


def describe_unknown_column(name: str, known: Sequence[str]) -> str:
    """Return what to say of a name that is none of the columns known."""
    return f"{name}: not a figure.{did_you_mean(name, known)} The figures are {', '.join(known)}."
