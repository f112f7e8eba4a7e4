"""Work on one point, in whichever process a launcher calls: the step `evaluate`, a child run.

It is called here, not launched as a project of its own: a process that has imported everything
needs no more seconds for that at its next point. What the point needs before is launched as ever.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import mlflow
from hydra.core.hydra_config import HydraConfig
from mlflow import MlflowClient
from omegaconf import DictConfig

from steps.common import child, results, runs
from steps.common import config as configs
from steps.common import step as steps
from steps.common.step import Step
from steps.evaluate.__main__ import evaluate
from steps.evaluate.result import Evaluation
from steps.sweep.place import POINT, Place
from steps.sweep.points import Point


def job(_: DictConfig, points: Sequence[Point], place: Place) -> None:
    """Work on the point whose number Hydra's launcher gives this job."""
    point = points[HydraConfig.get().job.num]
    parent = multiprocessing.parent_process()
    if parent is None:
        measure(point, place)
        return
    child.end_with_parent()
    try:
        measure(point, place)
    except KeyboardInterrupt:
        if os.getppid() != parent.pid:  # nobody is left to end a worker of a killed sweep
            os._exit(steps.INTERRUPTED)
        raise


def measure(point: Point, place: Place) -> None:
    """Make sure of the point's evaluation, in a child run of the sweep's that tells how it went.

    What is printed meanwhile becomes the run's artifact `log.txt`. A fault is on the run, and
    raised is only KeyboardInterrupt, and UserError where the store cannot be used.
    """
    os.environ |= {"MLFLOW_TRACKING_URI": place.tracking_uri, "SLMFLOW_HOME": place.home}
    os.environ.pop("MLFLOW_RUN_ID", None)
    mlflow.set_tracking_uri(place.tracking_uri)
    started: list[str] = []

    def work(step: Step) -> Evaluation | None:
        started.append(step.run.info.run_id)
        return _evaluated(step)

    key = results.key_of(Evaluation, configs.load(point.overrides))
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch, "log.txt")
        with _output_to(log), runs.lock(Evaluation, key):
            new_run = {
                "run_name": point.name,
                "experiment_id": place.experiment_id,
                "parent_run_id": place.run_id,
                "nested": True,
                "tags": {POINT: point.name},
            }
            status = steps.run(Evaluation.step, work, point.overrides, new_run=new_run)
        for run_id in started:
            MlflowClient().log_artifact(run_id, str(log))
    if status == steps.INTERRUPTED:
        raise KeyboardInterrupt


def _evaluated(step: Step) -> Evaluation | None:
    """Return a new evaluation, or None where a finished one holds, which the run then shows."""
    found = runs.find(Evaluation, step.key(Evaluation), step.run.info.experiment_id)
    if found is None:
        return evaluate(step)
    evaluation, run_id = found
    step.note_reuse(Evaluation.step, run_id)
    evaluation.log_figures()
    mlflow.log_dict(evaluation.to_json(), results.FILE)
    return None


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
