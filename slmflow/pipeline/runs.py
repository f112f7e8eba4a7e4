"""Runs of a step on the tracking server: find one whose result still holds, or launch it.

A step asks for what it needs with `Step.ensure(Weights)`; that is the one place where a run of
another step is found or made.
"""

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
from slmflow.pipeline.results import Result, Stale

STEP = "slmflow.step"
KEY = "slmflow.key"
REUSED_FROM = "slmflow.reused_from"
ERROR = "slmflow.error"
GIT_COMMIT = "slmflow.git_commit"
GIT_DIRTY = "slmflow.git_dirty"

# The tracking server keeps at most this many characters of a tag.
_TAG_LENGTH = 5000

MAX_RUNS = 50_000
"""How many runs a tracking server gives at once."""

R = TypeVar("R", bound=Result)

Launcher = Callable[[str, Sequence[str], Run], str]
"""What runs a step, with these overrides, as a child of a run, and returns the id of its run."""


def lock_result(kind: type[Result], key: str) -> AbstractContextManager[None]:
    """Return the lock on a result: of two that want it at once, one works, the other waits."""
    return store.lock(f"{kind.step}-run-{key}")


def find_finished(kind: type[R], key: str, experiment_id: str) -> tuple[R, str] | None:
    """Return the newest finished result with this key that still holds, and its run's id."""
    for run in _finished(kind, key, experiment_id):
        try:
            result = load_result(kind, run.info.run_id)
            result.check()
            return result, run.info.run_id
        except (Stale, MlflowException, TypeError, ValueError) as reason:
            messages.warning(f"{kind.step}: run {run.info.run_id} is passed over: {reason}")
    return None


def newest_run_id(kind: type[Result], key: str, experiment_id: str) -> str | None:
    """Return the id of the newest finished run with this key, whether its result holds or not."""
    finished = _finished(kind, key, experiment_id)
    return str(finished[0].info.run_id) if finished else None


def launch_step(step: str, overrides: Sequence[str], parent: Run) -> str:
    """Run a step as a nested project run of `parent` and return the id of its run.

    Raises UserError where the step failed, marked as shown if it has said why on the screen.
    """
    _make_python_findable()
    # "=== Created directory ... ===" is of no use to the user of a nested run.
    logging.getLogger("mlflow.projects").setLevel(logging.CRITICAL)
    # MLflow makes a folder for parameters it downloads and leaves it there: it goes with this one.
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
            raise _told_by_server(step, parent) from failure
        except KeyboardInterrupt:
            _mark_killed(_last_child(step, parent))
            raise
    return str(submitted.run_id)


def load_result(kind: type[R], run_id: str) -> R:
    """Return the result that a run logged. Raises MlflowException where it has none."""
    return kind.from_json(mlflow.artifacts.load_dict(f"runs:/{run_id}/{results.FILE}"))


def tag_error(run_id: str, message: str) -> None:
    """Note on a run why it failed."""
    MlflowClient().set_tag(run_id, ERROR, redact(message)[:_TAG_LENGTH])


def log_params(run: Run, params: dict[str, Any]) -> None:
    """Log params, but for those that MLflow logged from `-P`: a param cannot change its value."""
    mlflow.log_params({k: v for k, v in params.items() if k not in run.data.params})


def _finished(kind: type[Result], key: str, experiment_id: str) -> list[Run]:
    """Return the finished runs of a step with this key, the newest first."""
    query = f"tags.`{STEP}` = '{kind.step}' and tags.`{KEY}` = '{key}'"
    return list(
        MlflowClient().search_runs(
            [experiment_id],
            f"{query} and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
        )
    )


def _told_by_server(step: str, parent: Run) -> UserError:
    """Return why a step failed; where the server cannot be asked, the step itself has said it."""
    try:
        return step_failure(step, _last_child(step, parent))
    except MlflowException as error:
        if (fault := tracking_errors.explain(error)) is None:
            raise
        return UserError(f"step {step} failed: {fault}", shown=True)


def step_failure(step: str, child: Run | None) -> UserError:
    """Return the fault that a step's failed run, a child, is to its parent."""
    told = child.data.tags.get(ERROR) if child else None
    reason = told or "it was ended from outside, most likely for want of memory"
    if child and not told:
        tag_error(child.info.run_id, reason)
    return UserError(f"step {step} failed: {reason}", shown=told is not None)


def _mark_killed(child: Run | None) -> None:
    """Correct what MLflow notes on a run that is interrupted: it says FAILED, or nothing."""
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


def _make_python_findable() -> None:
    """Put the running interpreter first on PATH: MLproject's commands call `python`."""
    folder = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", "").split(os.pathsep)
    if path[0] != folder:
        os.environ["PATH"] = os.pathsep.join([folder, *path])
