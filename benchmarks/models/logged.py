"""Models that the project's own workflow logs, with a tracking database kept in a work folder.

What has finished there is not run again.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import mlflow

from benchmarks.harness.child import refuse_failure
from slmflow.config import compose
from slmflow.errors import UserError
from slmflow.flavors.genai_result import GenaiModel
from slmflow.pipeline import runs
from slmflow.pipeline.results import Result, key_of
from slmflow.system import child_processes

# Of MLflow's default experiment, the only one in this database.
EXPERIMENT_ID = "0"

# Where `mlflow run` has set them, they are not of this database.
_OF_ANOTHER_RUN = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")

R = TypeVar("R", bound=Result)


@contextlib.contextmanager
def tracking_in(folder: Path) -> Iterator[None]:
    """Keep the tracking database, and the files of its runs, in a folder: the current one, here."""
    for name in _OF_ANOTHER_RUN:
        os.environ.pop(name, None)
    folder.mkdir(parents=True, exist_ok=True)
    before = mlflow.get_tracking_uri()
    with contextlib.chdir(folder):  # MLflow puts the files of its runs there
        mlflow.set_tracking_uri(f"sqlite:///{folder.absolute()}/mlflow.db")
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)


def environment() -> dict[str, str]:
    """Return the environment of a child that uses the same tracking database."""
    return child_processes.environment(MLFLOW_TRACKING_URI=mlflow.get_tracking_uri())


def make_sure(overrides: Sequence[str]) -> None:
    """Run the workflow up to the GenAI model, unless a run of it has finished.

    Raises UserError where it fails.
    """
    if _find(GenaiModel, overrides):
        return
    line = [sys.executable, "-m", "steps.log_genai", *overrides]
    refuse_failure(line, subprocess.call(line, env=environment()))


def finished(kind: type[R], overrides: Sequence[str]) -> tuple[R, str]:
    """Return what a finished run has made of a config, and the run's id.

    Raises UserError where there is none.
    """
    if (found := _find(kind, overrides)) is None:
        raise UserError(
            f"{kind.step} has no finished run with {' '.join(overrides)} any more: the project "
            "was changed meanwhile, or its files were deleted. Start this again"
        )
    return found


def _find(kind: type[R], overrides: Sequence[str]) -> tuple[R, str] | None:
    return runs.find(kind, key_of(kind, compose.load(overrides)), EXPERIMENT_ID)
