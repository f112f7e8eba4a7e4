"""The inputs of an evaluation: the rows and the user's metrics."""

from collections.abc import Sequence
from dataclasses import dataclass

from slmflow.config.schema.config import Config
from slmflow.datasets import rows
from slmflow.datasets.rows import Row
from slmflow.measurement.harness import lm_eval_tasks
from slmflow.metrics import user_metrics
from slmflow.metrics.model_metrics import NUMERIC_COLUMNS, SUFFIXES
from slmflow.metrics.user_metrics import UserMetric
from slmflow.runtime.unknown_names import closest, did_you_mean

# What is measured of a model that runs tasks, besides those.
_WITHOUT_ROWS = ("n", "model_size_mb", "mean_kl")


@dataclass(frozen=True)
class EvaluationInputs:
    """The rows to answer, and the user's metrics; neither if tasks are evaluated."""

    rows: list[Row]
    user_metrics: list[UserMetric]


def read(config: Config) -> EvaluationInputs:
    """Read the rows and import the user's metrics; without rows, check the tasks that replace them.

    Raises UserError if any are invalid.
    """
    if config.evaluation.tasks:
        lm_eval_tasks.check(config)
        return EvaluationInputs([], [])
    data = rows.read(config)
    return EvaluationInputs(data, user_metrics.load(config.evaluation.metrics, data[0].answer))


def numeric_columns(config: Config) -> list[str]:
    """Return the columns of the comparison that hold a number, the user's metrics last.

    Tasks of lm-evaluation-harness have columns of their own, in place of those of rows.
    """
    if config.evaluation.tasks:
        columns = lm_eval_tasks.check(config)
        return [*_WITHOUT_ROWS, *(c.name + end for c in columns for end in ("", *SUFFIXES))]
    return [*NUMERIC_COLUMNS, *(spec.rpartition(":")[2] for spec in config.evaluation.metrics)]


def describe_unknown_column(name: str, known: Sequence[str]) -> str:
    """Return an error message for a name that is not a known column."""
    suggestion = did_you_mean(closest(name, known))
    return f"{name}: not a metric.{suggestion} The metrics are {', '.join(known)}."
