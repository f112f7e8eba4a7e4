"""Run steps of a sweep in its own process: what they work on is in its memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from slmflow.pipeline import step_runner
from slmflow.pipeline.failures import INTERRUPTED
from slmflow.pipeline.results import Result
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import ConfigReader
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
    read: ConfigReader = step_runner.load_config,
) -> CompletedStep:
    """Run a step in this process, as a child run of the context's run.

    A failure is logged to the child run and not raised.
    """
    run_ids: list[str] = []

    def function_with_run_id(step: Step) -> Result | None:
        run_ids.append(step.run.info.run_id)
        return function(step)

    new_run = {
        "run_name": run_name,
        "experiment_id": context.experiment_id,
        "parent_run_id": context.run_id,
        "nested": True,
        "tags": tags,
    }
    status = step_runner.run(name, function_with_run_id, overrides, read, new_run)
    return CompletedStep(status, run_ids[0] if run_ids else None)
