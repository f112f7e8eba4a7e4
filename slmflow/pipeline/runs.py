"""The MLflow runs of steps: find a finished one, launch a new one, set tags and params."""

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import ExecutionException, MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_PROJECT_ENTRY_POINT

from slmflow.console import messages
from slmflow.console.redaction import redact
from slmflow.errors import UserError
from slmflow.paths import PROJECT
from slmflow.pipeline import results, store, tracking_errors
from slmflow.pipeline.results import AbsentResult, InvalidResult, Result

STEP = "slmflow.step"
KEY = "slmflow.key"
REUSED_FROM = "slmflow.reused_from"
ERROR = "slmflow.error"
GIT_COMMIT = "slmflow.git_commit"
GIT_DIRTY = "slmflow.git_dirty"

MAX_RUNS = 50_000
"""The most runs that a tracking server returns at once."""

_MAX_TAG_LENGTH = 5000  # of a tracking server

R = TypeVar("R", bound=Result)

Launcher = Callable[[str, Sequence[str], Run], str]
"""Runs a step with overrides as a child of a run; returns the id of its run."""


def lock_result(kind: type[Result], key: str) -> AbstractContextManager[None]:
    """Return the lock on a result: of two processes that need it, one builds, the other waits."""
    return store.lock(f"{kind.step}-run-{key}")


def find_finished(
    kind: type[R], key: str, experiment_id: str, *, warn: bool = True
) -> tuple[R, str] | None:
    """Return the newest finished result with this key that is still valid, and its run's id.

    warn: say why a run is not reused. That its files are in another user's store needs no warning.
    """
    for run in _finished_runs(kind, key, experiment_id):
        try:
            result = load_result(kind, run.info.run_id)
            result.check()
            return result, run.info.run_id
        except AbsentResult:
            continue
        except (InvalidResult, MlflowException, TypeError, ValueError) as reason:
            if warn:
                messages.warning(f"{kind.step}: run {run.info.run_id} is not reused: {reason}")
    return None


def newest_run_id(kind: type[Result], key: str, experiment_id: str) -> str | None:
    """Return the id of the newest finished run with this key, valid or not."""
    finished = _finished_runs(kind, key, experiment_id)
    return str(finished[0].info.run_id) if finished else None


def launch_step(step: str, overrides: Sequence[str], parent: Run) -> str:
    """Run a step as a nested project run of `parent` and return the id of its run.

    Raises UserError if the step fails, marked as shown if the step has printed the reason.
    """
    _put_python_on_path()
    # Hide "=== Created directory ... ===".
    logging.getLogger("mlflow.projects").setLevel(logging.CRITICAL)
    # MLflow leaves behind a folder for downloaded parameters: it is removed with this one.
    with tempfile.TemporaryDirectory() as scratch:
        try:
            submitted = mlflow.projects.run(
                uri=str(PROJECT),
                entry_point=step,
                parameters=dict(override.split("=", 1) for override in overrides),
                experiment_id=parent.info.experiment_id,
                env_manager="local",
                storage_dir=scratch,
                run_name=step,
            )
        except ExecutionException as failure:
            raise _find_step_failure(step, parent) from failure
        except KeyboardInterrupt:
            _mark_interrupted(_last_child(step, parent))
            raise
    return str(submitted.run_id)


def load_result(kind: type[R], run_id: str) -> R:
    """Return the result that a run logged. Raises MlflowException if it has none."""
    return kind.from_json(mlflow.artifacts.load_dict(f"runs:/{run_id}/{results.FILE}"))


def tag_error(run_id: str, message: str) -> None:
    """Tag a run with the reason of its failure."""
    MlflowClient().set_tag(run_id, ERROR, redact(message)[:_MAX_TAG_LENGTH])


def log_params(run: Run, params: dict[str, Any]) -> None:
    """Log params except those that MLflow logged from `-P`: a param cannot change."""
    mlflow.log_params({k: v for k, v in params.items() if k not in run.data.params})


def step_failure(step: str, child: Run | None) -> UserError:
    """Return the error to raise in the parent of a step's failed run, if there is a run."""
    message = child.data.tags.get(ERROR) if child else None
    reason = message or "its process was killed, probably because the machine ran out of memory"
    if child and not message:
        tag_error(child.info.run_id, reason)
    return UserError(f"step {step} failed: {reason}", shown=message is not None)


def _find_step_failure(step: str, parent: Run) -> UserError:
    """Return why a step failed; the step has already printed it if the server is unavailable."""
    try:
        return step_failure(step, _last_child(step, parent))
    except MlflowException as error:
        if (fault := tracking_errors.explain(error)) is None:
            raise
        return UserError(f"step {step} failed: {fault}", shown=True)


def _finished_runs(kind: type[Result], key: str, experiment_id: str) -> list[Run]:
    """Return the finished runs of a step with this key, the newest first."""
    query = f"tags.`{STEP}` = '{kind.step}' and tags.`{KEY}` = '{key}'"
    return list(
        MlflowClient().search_runs(
            [experiment_id],
            f"{query} and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
        )
    )


def _mark_interrupted(child: Run | None) -> None:
    """Mark an interrupted run as KILLED: MLflow marks it as FAILED, or not at all."""
    if child is not None and child.info.status != "FINISHED":
        tag_error(child.info.run_id, "interrupted")
        MlflowClient().set_terminated(child.info.run_id, "KILLED")


def _last_child(step: str, parent: Run) -> Run | None:
    children = MlflowClient().search_runs(
        [parent.info.experiment_id],
        f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent.info.run_id}' "
        f"and tags.`{MLFLOW_PROJECT_ENTRY_POINT}` = '{step}'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return children[0] if children else None


def _put_python_on_path() -> None:
    """Put the running interpreter first on PATH: MLproject's commands call `python`."""
    folder = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", "").split(os.pathsep)
    if path[0] != folder:
        os.environ["PATH"] = os.pathsep.join([folder, *path])
