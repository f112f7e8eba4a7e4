"""Run steps in the sweep's own process instead of launching each as a project.

A process that has imported transformers once saves those seconds in every further step. Steps
without a function in the sweep context are launched as usual, such as `convert`: its peak memory
is that of its process.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import Run

from slmflow.pipeline import runs
from slmflow.pipeline import step as steps
from slmflow.pipeline.failures import INTERRUPTED
from slmflow.pipeline.results import Result
from slmflow.pipeline.step import ConfigReader, Step
from slmflow.sweeps.context import StepFunction, SweepContext


@dataclass(frozen=True)
class CompletedStep:
    """The exit status of a step, and the id of its run, None if it did not start one."""

    status: int
    run_id: str | None

    def raise_if_interrupted(self) -> None:
        """Raise KeyboardInterrupt if the step was interrupted."""
        if self.status == INTERRUPTED:
            raise KeyboardInterrupt


def run_in_process(
    name: str,
    function: StepFunction,
    overrides: Sequence[str],
    context: SweepContext,
    *,
    run_name: str,
    tags: dict[str, str] | None = None,
    read: ConfigReader = steps.load_config,
) -> CompletedStep:
    """Run a step in this process, as a child run of the context's run.

    A failure is logged to the child run and not raised.
    """
    run_ids: list[str] = []

    def function_with_run_id(step: Step) -> Result | None:
        run_ids.append(step.run.info.run_id)
        return function(step)

    def launch(name: str, overrides: Sequence[str], parent: Run) -> str:
        return _launch(name, overrides, context.below(parent), parent)

    new_run = {
        "run_name": run_name,
        "experiment_id": context.experiment_id,
        "parent_run_id": context.run_id,
        "nested": True,
        "tags": tags,
    }
    status = steps.run(name, function_with_run_id, overrides, read, new_run, launch)
    return CompletedStep(status, run_ids[0] if run_ids else None)


def _launch(name: str, overrides: Sequence[str], context: SweepContext, parent: Run) -> str:
    """Run a step as `runs.launch` does, in this process if its function is known."""
    function = context.step_functions.get(name)
    if function is None:
        return runs.launch_step(name, overrides, parent)
    with _restored_environment():
        completed = run_in_process(name, function, overrides, context, run_name=name)
    completed.raise_if_interrupted()
    run = MlflowClient().get_run(completed.run_id) if completed.run_id else None
    if completed.status or run is None:
        raise runs.step_failure(name, run)
    return str(run.info.run_id)


@contextmanager
def _restored_environment() -> Iterator[None]:
    """Undo changes to the environment: later child processes must not inherit them."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
