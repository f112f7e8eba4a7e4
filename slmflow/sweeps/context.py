"""Where a sweep keeps what it makes."""

from dataclasses import dataclass
from typing import Self

import mlflow
from mlflow.entities import Run

from slmflow.pipeline import store

POINT = "slmflow.point"
"""Tag of a point's run: its name."""

PRUNED = "slmflow.pruned"
"""Tag of the run of a point that was given up: why."""

SIDE_BY_SIDE = "slmflow.side_by_side"
"""Tag of a run that measures the models of several points: how many."""


@dataclass(frozen=True)
class Place:
    """The tracking server, experiment and run below which to work, and the folder of the store.

    In values that mean the same to every process, and to every machine that shares the two.
    """

    tracking_uri: str
    experiment_id: str
    run_id: str
    home: str

    @classmethod
    def below(cls, run: Run) -> Self:
        """Return the place below a run of this process."""
        info = run.info
        home = str(store.home())
        return cls(mlflow.get_tracking_uri(), info.experiment_id, info.run_id, home)
