"""What processes leave behind that are ended from outside, by kill -9 say: runs still RUNNING.

While a step's process works at a run it holds a lock, which the system frees when the process ends
in any way. The run's tag says which lock: whoever can take it knows that nobody works there.
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

_LONGEST_START_S = 24 * 60 * 60


@contextmanager
def hold_run_lock() -> Iterator[dict[str, str]]:
    """Hold a lock of one's own; yield the tag of the run that is worked at meanwhile.

    There is no tag where the store cannot be written: a step that needs none runs all the same.
    """
    with ExitStack() as stack:
        tag = {}
        with suppress(UserError, OSError):
            file = store.lock_file(f"run-{uuid.uuid4().hex}")
            stack.enter_context(locks.hold(file))
            tag = {LOCK_TAG: f"{platform.node()}:{file}"}
        yield tag


def end_stale_runs(own: Run) -> None:
    """Mark as KILLED the runs of `own`'s experiment whose process on this machine is no more.

    And those of its project that no step has begun for a day: MLflow was ended while it made the
    environment, say.
    """
    for run in find_running(own.info.experiment_id):
        if run.info.run_id == own.info.run_id:
            continue
        if (owner := _owner(run)) is None:
            if _never_began(run, own):
                mark_killed(run)
        else:
            with _freed(owner.data.tags[LOCK_TAG]) as is_dead:
                if is_dead and _still_running(run):
                    mark_killed(run)
                    messages.info(f"run {run.info.run_id}, whose process was ended, is KILLED now")
    locks.remove_unheld(store.home() / "locks", "run-*.lock")


def is_orphan(run: Run) -> bool:
    """Return whether the process that launched a run's step, at a run above, is no more."""
    above = next((each for each in list(with_ancestors(run))[1:] if LOCK_TAG in each.data.tags), None)
    if above is None:
        return False
    with _freed(above.data.tags[LOCK_TAG]) as is_dead:
        return is_dead


def mark_killed(run: Run) -> None:
    """Mark a run as KILLED, and the models that it was still logging as FAILED."""
    client = MlflowClient()
    runs.tag_error(run.info.run_id, "ended from outside")
    logged = client.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
    )
    for model in logged:
        if model.status == LoggedModelStatus.PENDING:
            client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
    client.set_terminated(run.info.run_id, "KILLED")


def with_ancestors(run: Run) -> Iterator[Run]:
    """Yield a run, its parent, the parent's parent and so on, as far as they are there."""
    yield run
    with suppress(MlflowException):
        while parent := run.data.tags.get(MLFLOW_PARENT_RUN_ID):
            run = MlflowClient().get_run(parent)
            yield run


def find_running(experiment_id: str) -> list[Run]:
    """Return the runs of an experiment that are RUNNING."""
    query = "attributes.status = 'RUNNING'"
    return list(MlflowClient().search_runs([experiment_id], query, max_results=runs.MAX_RUNS))


def _owner(run: Run) -> Run | None:
    """Return the run whose process works at this one: itself, or the one that launches its step."""
    return next((each for each in with_ancestors(run) if LOCK_TAG in each.data.tags), None)


def _never_began(run: Run, own: Run) -> bool:
    """Return whether `mlflow run` made a run of `own`'s project a day ago, and no step began it."""
    tags, project = run.data.tags, own.data.tags.get(MLFLOW_SOURCE_NAME)
    return (
        MLFLOW_PROJECT_ENTRY_POINT in tags
        and tags.get(MLFLOW_SOURCE_NAME) == project
        and tags.keys().isdisjoint((runs.STEP, MLFLOW_PROJECT_BACKEND))
        and time.time() - run.info.start_time / 1e3 > _LONGEST_START_S
    )


def _still_running(run: Run) -> bool:
    """Return whether a run had not ended by itself before its lock was taken."""
    return bool(MlflowClient().get_run(run.info.run_id).info.status == "RUNNING")


@contextmanager
def _freed(tag: str) -> Iterator[bool]:
    """Yield whether the lock that a tag names is one of this machine that nobody holds."""
    machine, _, file = tag.partition(":")
    if machine != platform.node():
        yield False
    elif not Path(file).exists():
        yield True
    else:
        with locks.try_hold(Path(file)) as is_free:
            yield is_free
