"""End stale runs: those that are RUNNING although their process was killed.

The process of a step holds a lock, which the system frees when the process ends in any way. A tag
of the run names the lock. Whoever can take the lock knows that the process is dead.
"""

import platform
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus, Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import (
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_PROJECT_BACKEND,
    MLFLOW_PROJECT_ENTRY_POINT,
    MLFLOW_SOURCE_NAME,
)

from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.pipeline import runs, store
from slmflow.system import locks

LOCK_TAG = "slmflow.lock"
"""Tag of a run: the machine and the file of its process's lock."""

_MAX_START_S = 24 * 60 * 60


@contextmanager
def hold_run_lock() -> Iterator[dict[str, str]]:
    """Hold a new lock; yield the tag that names it, for the run of this process.

    Yields no tag if the store cannot be written: a step that does not need the store runs anyway.
    """
    with ExitStack() as stack:
        tag = {}
        with suppress(UserError, OSError):
            file = store.lock_file(f"run-{uuid.uuid4().hex}")
            stack.enter_context(locks.hold(file))
            tag = {LOCK_TAG: f"{platform.node()}:{file}"}
        yield tag


def end_stale_runs(current: Run) -> None:
    """Mark as KILLED the runs of the current run's experiment whose process here is dead.

    It also marks runs that `mlflow run` created for this project more than a day ago and that have
    no step: MLflow was killed while it built the environment, for example.
    """
    for run in find_running(current.info.experiment_id):
        if run.info.run_id == current.info.run_id:
            continue
        if (owner := _find_owner(run)) is None:
            if _never_began(run, current):
                mark_killed(run)
        else:
            with _take_lock(owner.data.tags[LOCK_TAG]) as is_dead:
                if is_dead and _is_still_running(run):
                    mark_killed(run)
                    messages.info(f"run {run.info.run_id} is marked as KILLED: its process is dead")
    locks.remove_unheld(store.home() / "locks", "run-*.lock")


def is_orphan(run: Run) -> bool:
    """Return whether the process that launched a run's step, at an ancestor, is dead."""
    ancestors = list(with_ancestors(run))[1:]
    owner = next((each for each in ancestors if LOCK_TAG in each.data.tags), None)
    if owner is None:
        return False
    with _take_lock(owner.data.tags[LOCK_TAG]) as is_dead:
        return is_dead


def is_dead(lock_tag: str) -> bool:
    """Return whether the process whose lock a tag names is known to have ended."""
    with _take_lock(lock_tag) as is_dead:
        return is_dead


def mark_killed(run: Run) -> None:
    """Mark a run as KILLED, and its unfinished logged models as FAILED."""
    client = MlflowClient()
    runs.tag_error(run.info.run_id, "its process was killed")
    logged = client.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
    )
    for model in logged:
        if model.status == LoggedModelStatus.PENDING:
            client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
    client.set_terminated(run.info.run_id, "KILLED")


def with_ancestors(run: Run) -> Iterator[Run]:
    """Yield a run, its parent, its parent's parent and so on, as far as they exist."""
    yield run
    with suppress(MlflowException):
        while parent := run.data.tags.get(MLFLOW_PARENT_RUN_ID):
            run = MlflowClient().get_run(parent)
            yield run


def find_running(experiment_id: str) -> list[Run]:
    """Return the runs of an experiment that are RUNNING."""
    query = "attributes.status = 'RUNNING'"
    return list(MlflowClient().search_runs([experiment_id], query, max_results=runs.MAX_RUNS))


def _find_owner(run: Run) -> Run | None:
    """Return the run with the lock of the process behind a run: itself, or an ancestor."""
    return next((each for each in with_ancestors(run) if LOCK_TAG in each.data.tags), None)


def _never_began(run: Run, current: Run) -> bool:
    """Return whether `mlflow run` created a run of this project over a day ago, without a step."""
    tags, project = run.data.tags, current.data.tags.get(MLFLOW_SOURCE_NAME)
    return (
        MLFLOW_PROJECT_ENTRY_POINT in tags
        and tags.get(MLFLOW_SOURCE_NAME) == project
        and tags.keys().isdisjoint((runs.STEP, MLFLOW_PROJECT_BACKEND))
        and time.time() - run.info.start_time / 1e3 > _MAX_START_S
    )


def _is_still_running(run: Run) -> bool:
    """Return whether a run has not ended normally before its lock was taken."""
    return bool(MlflowClient().get_run(run.info.run_id).info.status == "RUNNING")


@contextmanager
def _take_lock(tag: str) -> Iterator[bool]:
    """Try to hold the lock that a tag names; yield whether its process is dead.

    A lock of another machine yields False, a lock file that is gone yields True.
    """
    machine, _, file = tag.partition(":")
    if machine != platform.node():
        yield False
    elif not Path(file).exists():
        yield True
    else:
        with locks.try_hold(Path(file)) as is_free:
            yield is_free
