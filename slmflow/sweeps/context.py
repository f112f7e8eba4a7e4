"""The context that every process of a sweep shares, and the tags of its runs."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import mlflow
from mlflow.entities import Run

from slmflow.pipeline import store
from slmflow.pipeline.results import Result
from slmflow.pipeline.step import Step

POINT = "slmflow.point"
"""Tag of a point's run: the point's name."""

PRUNED = "slmflow.pruned"
"""Tag of a pruned point's run: the reason."""

SHARED_MEASUREMENT = "slmflow.side_by_side"
"""Tag of a run that measures several points together: how many."""

StepFunction = Callable[[Step], Result | None]


@dataclass(frozen=True)
class SweepContext:
    """The tracking server, experiment, parent run and store of a sweep.

    All values are valid in every process, and on every machine that shares the server and the
    store. evaluate: the function of that step, importable, because it is pickled by reference.
    """

    tracking_uri: str
    experiment_id: str
    run_id: str
    store_folder: str
    evaluate: StepFunction

    @classmethod
    def of(cls, run: Run, evaluate: StepFunction) -> Self:
        """Return the context of a sweep whose run this process has started."""
        return cls(
            mlflow.get_tracking_uri(),
            run.info.experiment_id,
            run.info.run_id,
            str(store.home()),
            evaluate,
        )

    def below(self, run: Run) -> Self:
        """Return the context in which `run` is the parent run."""
        return dataclasses.replace(self, run_id=run.info.run_id)
