"""Steps that are called in a sweep's own process, not launched as projects of their own.

A process that has imported what a step needs, transformers above all, needs no seconds for that the
next time. Conversion is launched as ever: its peak of memory is that of its process.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import Run

from slmflow.flavors.genai_result import GenaiModel
from slmflow.flavors.transformers_result import TransformersModel
from slmflow.pipeline import runs
from slmflow.pipeline import step as steps
from slmflow.pipeline.failures import INTERRUPTED
from slmflow.pipeline.results import Result
from slmflow.pipeline.step import Read, Step
from slmflow.sweeps.context import Place
from steps.log_genai import log_genai
from steps.log_transformers import log_transformers

Work = Callable[[Step], Result | None]

_CALLED: dict[str, Work] = {
    TransformersModel.step: log_transformers,
    GenaiModel.step: log_genai,
}


@dataclass(frozen=True)
class Called:
    """What came of a step: its exit status, and its run's id, None where it did not come to one."""

    status: int
    run_id: str | None

    def raise_if_interrupted(self) -> None:
        """Raise KeyboardInterrupt where the step was interrupted."""
        if self.status == INTERRUPTED:
            raise KeyboardInterrupt


def call(
    step: str,
    work: Work,
    overrides: Sequence[str],
    place: Place,
    *,
    run_name: str,
    tags: dict[str, str] | None = None,
    read: Read = steps.read,
) -> Called:
    """Run a step as a child of the place's run, in this process. A fault is told by the run."""
    begun: list[str] = []

    def noted(step: Step) -> Result | None:
        begun.append(step.run.info.run_id)
        return work(step)

    new_run = {
        "run_name": run_name,
        "experiment_id": place.experiment_id,
        "parent_run_id": place.run_id,
        "nested": True,
        "tags": tags,
    }
    status = steps.run(step, noted, overrides, read, new_run, _launch)
    return Called(status, begun[0] if begun else None)


def _launch(step: str, overrides: Sequence[str], parent: Run) -> str:
    """Run a step as `runs.launch` does, but in this process where that saves seconds."""
    if step not in _CALLED:
        return runs.launch(step, overrides, parent)
    with _environment_kept():
        called = call(step, _CALLED[step], overrides, Place.below(parent), run_name=step)
    called.raise_if_interrupted()
    run = MlflowClient().get_run(called.run_id) if called.run_id else None
    if called.status or run is None:
        raise runs.failure_of(step, run)
    return str(run.info.run_id)


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Undo what the block sets in the environment: it is not for what is launched later."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
