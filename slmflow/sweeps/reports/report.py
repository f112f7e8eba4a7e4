"""Log what a sweep found to its run, and mark the runs of the points that no other beats."""

import mlflow
import pandas as pd
from mlflow import MlflowClient

from slmflow.metrics.figures import COLUMNS
from slmflow.sweeps.best_point import Answer
from slmflow.sweeps.outcomes import Measured, Outcomes
from slmflow.sweeps.reports import front_plot, parallel_plot

FRONT = "slmflow.front"
"""Tag of the run of a point on the front."""

BEST = "slmflow.best"
"""Tag of the best point's run; on the sweep's run, that run's id."""


def log(answer: Answer, found: Outcomes) -> None:
    """Log `comparison.json`, the two plots and how many points there were to the active run."""
    reused = sum(each.reused for each in answer.measured)
    counts = {
        "measured": len(answer.measured) - reused,
        "reused": reused,
        "given_up": len(found.given_up),
        "failed": len(found.failed),
    }
    mlflow.log_metrics({f"points.{state}": number for state, number in counts.items()})
    if not answer.measured:
        return
    mlflow.log_table(table(answer), "comparison.json")
    mlflow.log_figure(front_plot.draw(answer), "front.png")
    mlflow.log_figure(parallel_plot.draw(answer), "parallel.png")
    client = MlflowClient()
    for each in answer.on_front:
        client.set_tag(each.run_id, FRONT, "true")
    if answer.best is not None:
        client.set_tag(answer.best.run_id, BEST, "true")
        mlflow.set_tag(BEST, answer.best.run_id)


def table(answer: Answer) -> pd.DataFrame:
    """Return a row for each flavor of each point: the swept keys, then evaluate's columns.

    A swept group that evaluate has a column of, such as `target`, is that column.
    """
    return pd.DataFrame([row for each in answer.measured for row in _rows(each)])


def _rows(each: Measured) -> list[dict[str, object]]:
    swept = {key: each.point.value(key) for key in each.point.swept if key not in COLUMNS}
    return [{**swept, **row.columns()} for row in each.evaluation.figures]
