"""Log the result of a sweep to its run, and tag the runs of the points on the front."""

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from slmflow.metrics.model_metrics import COLUMNS
from slmflow.sweeps import description, plots
from slmflow.sweeps.outcomes import MeasuredPoint, Outcomes
from slmflow.sweeps.sweep_result import SweepResult

FRONT = "slmflow.front"
"""Tag of the run of a point on the front."""

BEST = "slmflow.best"
"""Tag of the best point's run; on the sweep's run, the id of that run."""


def log(result: SweepResult, outcomes: Outcomes, experiment_id: str) -> None:
    """Log the counts of points, `comparison.json` and the plots to the active run; describe it.

    The plot of the first front is `front.png`, that of the second `front_2.png`.
    """
    reused = sum(each.is_reused for each in outcomes.measured)
    counts = {
        "measured": len(outcomes.measured) - reused,
        "reused": reused,
        "given_up": len(outcomes.pruned),
        "failed": len(outcomes.failed),
    }
    mlflow.log_metrics({f"points.{outcome}": count for outcome, count in counts.items()})
    mlflow.set_tag(MLFLOW_RUN_NOTE, description.render(result, outcomes, experiment_id))
    if not result.measured:
        return
    table = pd.DataFrame([row for each in result.measured for row in _rows(each)])
    mlflow.log_table(table, "comparison.json")
    for number, front in enumerate(result.fronts, start=1):
        name = "front.png" if number == 1 else f"front_{number}.png"
        mlflow.log_figure(plots.draw_front(result, front), name)
    mlflow.log_figure(plots.draw_parallel_axes(result), "parallel.png")
    client = MlflowClient()
    for each in result.on_a_front:
        client.set_tag(each.run_id, FRONT, "true")
    if result.best is not None:
        client.set_tag(result.best.run_id, BEST, "true")
        mlflow.set_tag(BEST, result.best.run_id)


def _rows(measured: MeasuredPoint) -> list[dict[str, object]]:
    """Return a row for each flavor: the swept keys, then the columns of `evaluate`.

    A swept group such as `target` is one of these columns already.
    """
    point = measured.point
    swept = {key: point.value(key) for key in point.swept if key not in COLUMNS}
    return [{**swept, **row.columns()} for row in measured.comparison.models]
