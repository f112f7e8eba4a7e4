"""Work on a batch of points, in whichever process a launcher calls.

Their models are measured side by side; then each point is the step `evaluate`, a child run.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import mlflow
from hydra.core.hydra_config import HydraConfig
from mlflow import MlflowClient
from omegaconf import DictConfig

from slmflow.errors import UserError
from slmflow.metrics.result import Evaluation
from slmflow.pipeline import results, runs
from slmflow.pipeline.failures import INTERRUPTED
from slmflow.pipeline.step import Step
from slmflow.sweeps import outcomes
from slmflow.sweeps.context import POINT, Place
from slmflow.sweeps.execution import shared_measurement
from slmflow.sweeps.execution.in_process_steps import Called, call
from slmflow.sweeps.execution.shared_measurement import Faults
from slmflow.sweeps.points import Point
from slmflow.sweeps.pruning import Front, Pruned
from slmflow.system import child_processes
from steps.evaluate import evaluate


def job(
    _: DictConfig, batches: Sequence[Sequence[Point]], place: Place, front: Front | None
) -> None:
    """Work on the batch whose number Hydra's launcher gives this job."""
    batch = batches[HydraConfig.get().job.num]
    parent = multiprocessing.parent_process()
    if parent is None:
        work(batch, place, front)
        return
    child_processes.end_with_parent()
    try:
        work(batch, place, front)
    except KeyboardInterrupt:
        if os.getppid() != parent.pid:  # nobody is left to end a worker of a killed sweep
            os._exit(INTERRUPTED)
        raise


def work(batch: Sequence[Point], place: Place, front: Front | None) -> None:
    """Make sure of each point's evaluation, in a child run of the sweep's that tells how it went.

    front: which a point is given up for that cannot reach it.

    What is printed meanwhile becomes the run's artifact `log.txt`. A fault is on the run, and
    raised is only KeyboardInterrupt, and UserError where the store cannot be used.
    """
    os.environ |= {"MLFLOW_TRACKING_URI": place.tracking_uri, "SLMFLOW_HOME": place.home}
    os.environ.pop("MLFLOW_RUN_ID", None)
    mlflow.set_tracking_uri(place.tracking_uri)
    faults: Faults = {}
    _logged(partial(shared_measurement.measure, batch, place, front, faults))
    for point in batch:
        _logged(partial(_point, point, place, faults.get(point.name)))


def _point(point: Point, place: Place, fault: UserError | Pruned | None) -> Called:
    """Evaluate a point. fault: why there is nothing to evaluate."""
    with runs.lock(Evaluation, results.key_of(Evaluation, point.config)):
        return call(
            Evaluation.step,
            lambda step: _evaluated(step, fault),
            point.overrides,
            place,
            run_name=point.name,
            tags={POINT: point.name},
            read=lambda given: (given, point.config),
        )


def _evaluated(step: Step, fault: UserError | Pruned | None) -> Evaluation | None:
    """Return a new evaluation, or None where a finished one holds, which the run then shows."""
    if isinstance(fault, Pruned):
        outcomes.log_pruned(fault)
        return None
    if fault is not None:
        raise UserError(str(fault))
    found = runs.find(Evaluation, step.key(Evaluation), step.run.info.experiment_id)
    if found is None:
        return evaluate(step)
    evaluation, run_id = found
    step.note_reuse(Evaluation.step, run_id)
    evaluation.log_figures()
    mlflow.log_dict(evaluation.to_json(), results.FILE)
    return None


def _logged(work: Callable[[], Called | None]) -> None:
    """Keep what is printed meanwhile with the run that comes of the work."""
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch, "log.txt")
        with _output_to(log):
            called = work()
        if called and called.run_id:
            MlflowClient().log_artifact(called.run_id, str(log))
    if called:
        called.raise_if_interrupted()


@contextmanager
def _output_to(file: Path) -> Iterator[None]:
    """Send what this process prints, and those that it starts, to a file."""
    streams = (1, 2)
    before = [os.dup(stream) for stream in streams]
    with file.open("a", buffering=1) as output, redirect_stdout(output), redirect_stderr(output):
        for stream in streams:
            os.dup2(output.fileno(), stream)
        try:
            yield
        finally:
            for stream, saved in zip(streams, before, strict=True):
                os.dup2(saved, stream)
                os.close(saved)
