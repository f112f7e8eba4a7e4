"""Models that the project's own workflow logs, with a tracking database in a work folder.

Finished runs in that database are reused.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import mlflow

from benchmarks.harness.child_process import check_exit
from benchmarks.harness.installation import Installation
from slmflow.config import compose
from slmflow.errors import UserError
from slmflow.pipeline import runs
from slmflow.pipeline.keys import key_of
from slmflow.pipeline.results import GenaiModel, Result
from slmflow.system import child_processes

# MLflow's default experiment, the only one in this database.
EXPERIMENT_ID = "0"

# Set by `mlflow run`; they belong to another database.
_VARIABLES_OF_OTHER_RUNS = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")

R = TypeVar("R", bound=Result)


@contextlib.contextmanager
def use_tracking_folder(folder: Path) -> Iterator[None]:
    """Keep the tracking database and artifacts in a folder, the current one within the context."""
    for name in _VARIABLES_OF_OTHER_RUNS:
        os.environ.pop(name, None)
    folder.mkdir(parents=True, exist_ok=True)
    before = mlflow.get_tracking_uri()
    with contextlib.chdir(folder):  # MLflow writes artifacts there
        mlflow.set_tracking_uri(f"sqlite:///{folder.absolute()}/mlflow.db")
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)


def environment() -> dict[str, str]:
    """Return the environment of a child process with the same tracking database."""
    return child_processes.environment(**tracking_variables())


def tracking_variables() -> dict[str, str]:
    """Return the variables that make the current tracking database a child's."""
    return {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}


def ensure_logged(overrides: Sequence[str]) -> GenaiModel:
    """Run the workflow up to the GenAI model unless a finished run can be reused; return the model.

    Raises UserError if it fails.
    """
    if not _find_finished(GenaiModel, overrides):
        command = [sys.executable, "-m", "steps.log_genai", *overrides]
        check_exit(command, subprocess.call(command, env=environment()))
    return find_logged(GenaiModel, overrides)[0]


def log_with(installation: Installation, overrides: Sequence[str]) -> str:
    """Log the GenAI model with another version of the project; return its URI.

    The tracking database must be one of its own. Raises UserError if it fails.
    """
    command = [str(installation.python), "-m", "steps.log_genai", *overrides]
    environment = installation.environment() | tracking_variables()
    check_exit(command, subprocess.call(command, env=environment))
    [newest] = mlflow.search_logged_models(
        [EXPERIMENT_ID],
        order_by=[{"field_name": "creation_timestamp", "ascending": False}],
        max_results=1,
        output_format="list",
    )
    return newest.model_uri


def find_logged(kind: type[R], overrides: Sequence[str]) -> tuple[R, str]:
    """Return the result of a finished run with these overrides, and the run's id.

    Raises UserError if there is none.
    """
    if (finished := _find_finished(kind, overrides)) is None:
        raise UserError(
            f"{kind.step} no longer has a finished run with {' '.join(overrides)}: the project "
            "has changed, or files were deleted. Start the benchmark again"
        )
    return finished


def _find_finished(kind: type[R], overrides: Sequence[str]) -> tuple[R, str] | None:
    return runs.find_finished(kind, key_of(kind, compose.load(overrides)), EXPERIMENT_ID)
