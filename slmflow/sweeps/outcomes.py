"""The outcome of each point, read from its run on the tracking server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import ModelMetrics
from slmflow.pipeline import runs
from slmflow.pipeline.results import Evaluation
from slmflow.sweeps.context import POINT, PRUNED, SweepContext
from slmflow.sweeps.points import Point
from slmflow.sweeps.pruning import PointPruned

_BOUND = "best_case."


@dataclass(frozen=True)
class MeasuredPoint:
    """A point with a finished evaluation; is_reused: of an earlier run."""

    point: Point
    run_id: str
    comparison: Comparison
    is_reused: bool

    @property
    def converted(self) -> ModelMetrics:
        """The metrics of the converted model, in which the points differ."""
        return self.comparison.compared

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured of the converted model, by column."""
        return self.converted.measured()


@dataclass(frozen=True)
class Outcomes:
    """The points of a sweep by outcome, in the order of the sweep.

    pruned: by the name of a point, the best metrics that it could have reached; failed: by the name
    of a point without an evaluation, the reason.
    """

    measured: list[MeasuredPoint]
    pruned: dict[str, dict[str, float]]
    failed: dict[str, str]


def log_pruned(pruned: PointPruned) -> None:
    """Log to the active run, a point's, that it was pruned, and the bounds of its metrics."""
    mlflow.set_tag(PRUNED, str(pruned))
    mlflow.log_metrics({f"{_BOUND}{name}": value for name, value in pruned.bounds.items()})


def gather(points: Sequence[Point], context: SweepContext) -> Outcomes:
    """Return the outcomes of the points, from their newest runs."""
    children = child_runs(context.tracking_uri, context.experiment_id, context.run_id)
    newest = {run.data.tags.get(POINT): run for run in reversed(children)}
    outcomes = Outcomes([], {}, {})
    for point in points:
        run = newest.get(point.name)
        if run is not None and PRUNED in run.data.tags:
            outcomes.pruned[point.name] = _bounds(run)
        elif run is not None and run.info.status == "FINISHED":
            comparison = Comparison.from_result(runs.load_result(Evaluation, run.info.run_id))
            is_reused = runs.REUSED_FROM in run.data.tags and runs.KEY not in run.data.tags
            outcomes.measured.append(MeasuredPoint(point, run.info.run_id, comparison, is_reused))
        else:
            outcomes.failed[point.name] = failure_reason(run) if run else "it did not start"
    return outcomes


def failure_summary(failed: Mapping[str, str], total: int) -> str:
    """Return how many points failed, and a line with the reason for each."""
    lines = [f"{name}: {reason}" for name, reason in failed.items()]
    return "\n".join([f"{len(failed)} of {total} points failed:", *lines])


def child_runs(tracking_uri: str, experiment_id: str, run_id: str) -> list[Run]:
    """Return the runs of points and of shared measurements below a sweep's run, newest first."""
    return list(
        MlflowClient(tracking_uri).search_runs(
            [experiment_id],
            f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run_id}'",
            max_results=runs.MAX_RUNS,
            order_by=["attributes.start_time DESC"],
        )
    )


def _bounds(run: Run) -> dict[str, float]:
    metrics = run.data.metrics.items()
    return {n.removeprefix(_BOUND): value for n, value in metrics if n.startswith(_BOUND)}


def failure_reason(run: Run) -> str:
    """Return why a point's run failed."""
    return str(run.data.tags.get(runs.ERROR, "its process was killed"))
