"""Run points with one of Hydra's launchers, or with Ray."""

import functools
import tempfile
from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.types import HydraContext, TaskFunction

from slmflow.config.schema.sweep import Launcher, Sweep
from slmflow.paths import CONF
from slmflow.sweeps.context import SweepContext
from slmflow.sweeps.execution import ray_launcher, worker
from slmflow.sweeps.execution.point_groups import group_points
from slmflow.sweeps.points import Point
from slmflow.sweeps.pruning import Pruner

_OVERRIDES = {
    Launcher.serial: ("hydra/launcher=basic",),
    Launcher.joblib: ("hydra/launcher=joblib", "hydra.launcher.n_jobs={workers}"),
    Launcher.submitit_local: ("hydra/launcher=submitit_local",),
    Launcher.submitit_slurm: (
        "hydra/launcher=submitit_slurm",
        "hydra.launcher.array_parallelism={workers}",
    ),
}

# A run has its own log and config: Hydra writes neither, and leaves logging alone.
_SILENT = ("hydra/hydra_logging=none", "hydra/job_logging=none", "hydra.output_subdir=null")


def concurrency(sweep: Sweep) -> int:
    """Return how many points run at the same time."""
    return 1 if sweep.launcher is Launcher.serial else sweep.workers


def launch(
    points: Sequence[Point], context: SweepContext, sweep: Sweep, pruner: Pruner | None = None
) -> None:
    """Run every point with the launcher, and return when all have ended.

    pruner: prunes points; each point is then in a group of its own.
    """
    groups = group_points(points, at_least=len(points) if pruner else concurrency(sweep))
    if sweep.launcher is Launcher.ray:
        ray_launcher.launch(groups, context, sweep, pruner)
        return
    with tempfile.TemporaryDirectory() as scratch:
        task = functools.partial(
            worker.run_hydra_job, groups=groups, context=context, pruner=pruner
        )
        launcher = _hydra_launcher(task, sweep, scratch)
        # A job finds its group by its number: the config that Hydra composes for it is not used.
        for job in launcher.launch([[] for _ in groups], initial_job_idx=0):
            _ = job.return_value  # raises what the job raised


def _hydra_launcher(task: TaskFunction, sweep: Sweep, scratch: str) -> HydraLauncher:
    overrides = [each.format(workers=sweep.workers) for each in _OVERRIDES[sweep.launcher]]
    # Closed before the launch: each job composes a config, and Hydra allows one at a time.
    with initialize_config_dir(str(CONF), version_base="1.3"):
        folder = f"hydra.sweep.dir='{scratch}'"
        config = compose("config", [*_SILENT, folder, *overrides], return_hydra_config=True)
        loader = GlobalHydra.instance().config_loader()
    return Plugins.instance().instantiate_launcher(
        config=config,
        hydra_context=HydraContext(config_loader=loader, callbacks=Callbacks(config)),
        task_function=task,
    )
