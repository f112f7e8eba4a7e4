"""Evaluate a group of points, in the process that a launcher chose.

Their models are measured together; then each point is a child run of the step `evaluate`.
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
from slmflow.metrics.comparison import Comparison
from slmflow.pipeline import keys, results, run_links, runs, step_parts
from slmflow.pipeline.failures import INTERRUPTED
from slmflow.pipeline.results import Evaluation, Result
from slmflow.pipeline.step import Step
from slmflow.sweeps import outcomes
from slmflow.sweeps.context import POINT, StepFunction, SweepContext
from slmflow.sweeps.execution import shared_measurement
from slmflow.sweeps.execution.in_process_steps import CompletedStep, run_in_process
from slmflow.sweeps.execution.shared_measurement import Failures
from slmflow.sweeps.points import Point
from slmflow.sweeps.pruning import PointPruned, Pruner
from slmflow.system import child_processes


def run_hydra_job(
    _: DictConfig, groups: Sequence[Sequence[Point]], context: SweepContext, pruner: Pruner | None
) -> None:
    """Run the group that has the number of this job of Hydra's launcher."""
    group = groups[HydraConfig.get().job.num]
    parent = multiprocessing.parent_process()
    if parent is None:
        run_group(group, context, pruner)
        return
    child_processes.terminate_with_parent()
    try:
        run_group(group, context, pruner)
    except KeyboardInterrupt:
        if os.getppid() != parent.pid:  # the sweep was killed: nobody else ends this worker
            os._exit(INTERRUPTED)
        raise


def run_group(group: Sequence[Point], context: SweepContext, pruner: Pruner | None) -> None:
    """Evaluate each point in a child run of the sweep; `log.txt` has the output meanwhile.

    A point's failure is logged to its run. Raises only KeyboardInterrupt, and UserError if the
    store is unusable.
    """
    os.environ |= {
        "MLFLOW_TRACKING_URI": context.tracking_uri,
        "SLMFLOW_HOME": context.store_folder,
    }
    os.environ.pop("MLFLOW_RUN_ID", None)
    mlflow.set_tracking_uri(context.tracking_uri)
    failures: Failures = {}
    _run_logged(partial(shared_measurement.measure, group, context, pruner, failures))
    for point in group:
        _run_logged(partial(_run_point, point, context, failures.get(point.name)))


def _run_point(
    point: Point, context: SweepContext, failure: UserError | PointPruned | None
) -> CompletedStep:
    """Evaluate a point; failure: why its shared measurement has no answers for it."""
    with runs.lock_result(Evaluation, keys.key_of(Evaluation, point.config)):
        return run_in_process(
            Evaluation.step,
            lambda step: _evaluate(step, context.evaluate, failure),
            point.overrides,
            context,
            run_name=step_parts.point_name(point.config, point.swept),
            tags={POINT: point.name},
            read=lambda overrides: (overrides, point.config),
        )


def _evaluate(
    step: Step, evaluate: StepFunction, failure: UserError | PointPruned | None
) -> Result | None:
    """Return a new evaluation; None if the point is pruned or reuses an earlier evaluation.

    Logs the metrics of a reused evaluation to the point's run, and links its models and rows.
    """
    if isinstance(failure, PointPruned):
        outcomes.log_pruned(failure)
        return None
    if failure is not None:
        raise UserError(str(failure))
    found = step.find_finished(Evaluation, warn=True)
    if found is None:
        return evaluate(step)
    evaluation, run_id = found
    step.tag_reuse(Evaluation.step, run_id)
    comparison = Comparison.from_result(evaluation)
    comparison.log_metrics()
    run_links.copy_datasets(run_id)
    run_links.log_models_in(run_links.model_id(each.model_uri) for each in comparison.models)
    mlflow.log_dict(evaluation.to_json(), results.FILE)
    return None


def _run_logged(work: Callable[[], CompletedStep | None]) -> None:
    """Call a function that runs a step, and log the output to the step's run."""
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch, "log.txt")
        with _redirected_output(log):
            completed = work()
        if completed and completed.run_id:
            MlflowClient().log_artifact(completed.run_id, str(log))
    if completed:
        completed.raise_if_interrupted()


@contextmanager
def _redirected_output(file: Path) -> Iterator[None]:
    """Redirect the output of this process and its children to a file."""
    streams = (1, 2)
    originals = [os.dup(stream) for stream in streams]
    with file.open("a", buffering=1) as output, redirect_stdout(output), redirect_stderr(output):
        for stream in streams:
            os.dup2(output.fileno(), stream)
        try:
            yield
        finally:
            for stream, original in zip(streams, originals, strict=True):
                os.dup2(original, stream)
                os.close(original)
