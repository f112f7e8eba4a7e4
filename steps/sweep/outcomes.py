"""What became of each point, as the tracking server has it."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from steps.common import runs
from steps.evaluate.figures import FlavorFigures
from steps.evaluate.result import Evaluation
from steps.sweep.place import POINT, Place
from steps.sweep.points import Point

_MOST = 50_000  # that the tracking server gives at once


@dataclass(frozen=True)
class Measured:
    """A point that has figures: those of each flavor are in `evaluation`."""

    point: Point
    run_id: str
    evaluation: Evaluation
    reused: bool

    @property
    def converted(self) -> FlavorFigures:
        """The figures of the converted model, which are what the points differ in."""
        return self.evaluation.figures[-1]

    @property
    def figures(self) -> dict[str, float]:
        """What was measured of the converted model, by column."""
        return self.converted.measured()


@dataclass(frozen=True)
class Failed:
    """A point that has none, and why."""

    point: Point
    reason: str


def gather(points: Sequence[Point], place: Place) -> tuple[list[Measured], list[Failed]]:
    """Return the points that were measured and those that were not, each in order."""
    by_name = {run.data.tags.get(POINT): run for run in reversed(children(place))}
    measured, failed = [], []
    for point in points:
        run = by_name.get(point.name)
        if run is not None and run.info.status == "FINISHED":
            evaluation = runs.load_result(Evaluation, run.info.run_id)
            reused = runs.REUSED_FROM in run.data.tags and runs.KEY not in run.data.tags
            measured.append(Measured(point, run.info.run_id, evaluation, reused))
        else:
            failed.append(Failed(point, _reason(run)))
    return measured, failed


def told(failed: Sequence[Failed], total: int) -> str:
    """Return how many points failed and why, a line each."""
    lines = [f"{each.point.name}: {each.reason}" for each in failed]
    return "\n".join([f"{len(failed)} of {total} points failed:", *lines])


def children(place: Place) -> list[Run]:
    """Return the runs of what was begun, points and those side by side, the newest first."""
    return list(
        MlflowClient(place.tracking_uri).search_runs(
            [place.experiment_id],
            f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{place.run_id}'",
            max_results=_MOST,
            order_by=["attributes.start_time DESC"],
        )
    )


def _reason(run: Run | None) -> str:
    if run is None:
        return "it was not begun"
    return str(run.data.tags.get(runs.ERROR, "it was ended from outside"))
