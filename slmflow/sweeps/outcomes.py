"""What became of each point, as the tracking server has it."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from slmflow.metrics.figures import FlavorFigures
from slmflow.metrics.result import Evaluation
from slmflow.pipeline import runs
from slmflow.sweeps.context import POINT, PRUNED, Place
from slmflow.sweeps.points import Point
from slmflow.sweeps.pruning import Pruned

_BEST_CASE = "best_case."


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


@dataclass(frozen=True)
class GivenUp:
    """A point that could not reach the front; best: the figures it could have come to."""

    point: Point
    reason: str
    best: dict[str, float]


@dataclass(frozen=True)
class Outcomes:
    """What became of the points, each kind in order."""

    measured: list[Measured]
    given_up: list[GivenUp]
    failed: list[Failed]


def log_pruned(pruned: Pruned) -> None:
    """Note on the active run, a point's, that it was given up, and what it could have come to."""
    mlflow.set_tag(PRUNED, str(pruned))
    mlflow.log_metrics({f"{_BEST_CASE}{name}": value for name, value in pruned.best.items()})


def gather(points: Sequence[Point], place: Place) -> Outcomes:
    """Return what became of the points."""
    by_name = {run.data.tags.get(POINT): run for run in reversed(children(place))}
    found = Outcomes([], [], [])
    for point in points:
        run = by_name.get(point.name)
        if run is not None and PRUNED in run.data.tags:
            found.given_up.append(GivenUp(point, run.data.tags[PRUNED], _best_case(run)))
        elif run is not None and run.info.status == "FINISHED":
            evaluation = runs.load_result(Evaluation, run.info.run_id)
            reused = runs.REUSED_FROM in run.data.tags and runs.KEY not in run.data.tags
            found.measured.append(Measured(point, run.info.run_id, evaluation, reused))
        else:
            found.failed.append(Failed(point, _reason(run)))
    return found


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
            max_results=runs.MOST,
            order_by=["attributes.start_time DESC"],
        )
    )


def _best_case(run: Run) -> dict[str, float]:
    metrics = run.data.metrics.items()
    return {n.removeprefix(_BEST_CASE): v for n, v in metrics if n.startswith(_BEST_CASE)}


def _reason(run: Run | None) -> str:
    if run is None:
        return "it was not begun"
    return str(run.data.tags.get(runs.ERROR, "it was ended from outside"))
