"""What a sweep looks for, and what works on its points: `sweep.*`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING


class Launcher(Enum):
    """What works on the points.

    This process, one after the other; joblib's processes, side by side; jobs of submitit's, on this
    machine or a Slurm cluster; or tasks of Ray's, on this machine or its cluster.
    """

    serial = "serial"
    joblib = "joblib"
    submitit_local = "submitit_local"
    submitit_slurm = "submitit_slurm"
    ray = "ray"


class Search(Enum):
    """Which points are worked on: all, or those by which Optuna looks for the best or the front."""

    grid = "grid"
    best = "best"
    front = "front"


@dataclass
class Sweep:
    """A sweep: points, what is best of them, and who works on them.

    over: values by key, as Hydra writes several, unless the command line gives several. objective:
    goals, the first one first, e.g. `max exact_match, min latency_ms_p50`; front: two goals, whose
    non-dominated points are told. constraints: limits, e.g. `peak_rss_mb<2000`, that the best point
    keeps. Their names `sweep` checks. workers: points at once. trials: how many points a search
    asks for.
    """

    over: dict[str, str] = field(default_factory=dict)
    objective: str = MISSING
    front: str = MISSING
    constraints: str | None = None
    allow_failures: bool = False
    launcher: Launcher = Launcher.serial
    workers: int = 2
    search: Search = Search.grid
    trials: int = 20

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        for key, number in (("workers", self.workers), ("trials", self.trials)):
            if number < 1:
                yield f"sweep.{key}={number}: must be at least 1"
