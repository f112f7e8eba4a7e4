"""The points of a sweep, their goals and their launcher: `sweep.*`."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from slmflow.config.schema.fields import Kind, config_key


class Launcher(Enum):
    """What runs the points.

    serial: this process, one by one; joblib: processes, in parallel; submitit_*: jobs on this
    machine or a Slurm cluster; ray: tasks on this machine or a Ray cluster.
    """

    serial = "serial"
    joblib = "joblib"
    submitit_local = "submitit_local"
    submitit_slurm = "submitit_slurm"
    ray = "ray"


class Search(Enum):
    """Which points run: all, or those that Optuna picks to find the best point or the front."""

    grid = "grid"
    best = "best"
    front = "front"


@dataclass
class Sweep:
    """A sweep over points of the config. The step `sweep` checks the names of the metrics."""

    over: dict[str, str] = config_key(
        Kind.mapping, "values by key in Hydra's grammar; only a file of conf/sweep sets it", dict
    )
    objective: str = config_key(
        Kind.text, "goals by priority, such as `max exact_match, min latency_ms_p50`"
    )
    front: str = config_key(
        Kind.text, "the two goals of the Pareto front; a semicolon separates those of another front"
    )
    constraints: str | None = config_key(
        Kind.text, "limits that the best point must keep, such as `peak_rss_mb<2000`", None
    )
    allow_failures: bool = config_key(
        Kind.value, "whether the sweep succeeds although points failed", False
    )
    launcher: Launcher = config_key(Kind.value, "what runs the points", Launcher.serial)
    workers: int = config_key(Kind.value, "points that run at once, with a parallel launcher", 2)
    search: Search = config_key(Kind.value, "which points run", Search.grid)
    trials: int = config_key(Kind.value, "points that a search with Optuna runs", 20)

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        for key, number in (("workers", self.workers), ("trials", self.trials)):
            if number < 1:
                yield f"sweep.{key}={number}: must be at least 1"
