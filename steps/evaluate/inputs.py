"""What an evaluation is given: the rows, and the metrics of the user's own."""

from dataclasses import dataclass

from steps.common import rows, user_metrics
from steps.common.config import Config
from steps.common.rows import Row
from steps.common.user_metrics import UserMetric
from steps.evaluate.figures import COLUMNS


@dataclass(frozen=True)
class Inputs:
    """The rows that are asked, and further metrics."""

    rows: list[Row]
    metrics: list[UserMetric]


def read(config: Config) -> Inputs:
    """Read the rows and import the metrics. Raises UserError, before any work, for bad ones."""
    asked = rows.read(config)
    return Inputs(asked, user_metrics.load(config.evaluation.metrics, COLUMNS, asked[0].answer))
