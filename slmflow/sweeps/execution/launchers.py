"""Hand the points to one of Hydra's launchers, or to Ray."""

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
from slmflow.sweeps.context import Place
from slmflow.sweeps.execution import ray_tasks, worker
from slmflow.sweeps.execution.batches import batches
from slmflow.sweeps.points import Point
from slmflow.sweeps.pruning import Front

_OVERRIDES = {
    Launcher.serial: ("hydra/launcher=basic",),
    Launcher.joblib: ("hydra/launcher=joblib", "hydra.launcher.n_jobs={workers}"),
    Launcher.submitit_local: ("hydra/launcher=submitit_local",),
    Launcher.submitit_slurm: (
        "hydra/launcher=submitit_slurm",
        "hydra.launcher.array_parallelism={workers}",
    ),
}

# A run has its log and its config: Hydra need not write them too, nor set up logging.
_SILENT = ("hydra/hydra_logging=none", "hydra/job_logging=none", "hydra.output_subdir=null")


def at_once(sweep: Sweep) -> int:
    """Return how many points a launcher has worked on at once."""
    return 1 if sweep.launcher is Launcher.serial else sweep.workers


def launch(points: Sequence[Point], place: Place, sweep: Sweep, front: Front | None = None) -> None:
    """Have the launcher work on every point; return when all have ended, well or not.

    front: which a point is given up for that cannot reach it; then each is measured by itself.
    """
    parted = batches(points, len(points) if front else at_once(sweep))
    if sweep.launcher is Launcher.ray:
        ray_tasks.launch(parted, place, sweep, front)
        return
    with tempfile.TemporaryDirectory() as scratch:
        task = functools.partial(worker.job, batches=parted, place=place, front=front)
        launcher = _launcher(task, sweep, scratch)
        # A job knows its batch by its number: the config that Hydra composes for it is not used.
        for done in launcher.launch([[] for _ in parted], initial_job_idx=0):
            _ = done.return_value  # raises what the job raised


def _launcher(task: TaskFunction, sweep: Sweep, scratch: str) -> HydraLauncher:
    chosen = [each.format(workers=sweep.workers) for each in _OVERRIDES[sweep.launcher]]
    # Left before the launch: a job composes its own config, and Hydra does one at a time.
    with initialize_config_dir(str(CONF), version_base="1.3"):
        folder = f"hydra.sweep.dir='{scratch}'"
        config = compose("config", [*_SILENT, folder, *chosen], return_hydra_config=True)
        loader = GlobalHydra.instance().config_loader()
    return Plugins.instance().instantiate_launcher(
        config=config,
        hydra_context=HydraContext(config_loader=loader, callbacks=Callbacks(config)),
        task_function=task,
    )
