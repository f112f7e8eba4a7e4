"""Runs that a sweep leaves behind where it is ended from outside: they must not stay RUNNING.

While a sweep runs it holds a lock, which the system frees when its process ends in any way.
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from steps.common import console, runs, store

LOCK = "slmflow.lock"
"""Tag of a sweep's run: the machine and the file of its lock."""


@contextmanager
def ended(run: Run) -> Iterator[None]:
    """End what is left of sweeps before; leave no run below this one, whatever happens."""
    file = store.lock_file(f"sweep-{run.info.run_id}")
    with FileLock(file):
        MlflowClient().set_tag(run.info.run_id, LOCK, f"{platform.node()}:{file}")
        _end_dead_sweeps(run)
        try:
            yield
        finally:
            _end_below(run)
    file.unlink(missing_ok=True)


def _end_dead_sweeps(own: Run) -> None:
    for run in _running(own.info.experiment_id, f"tags.`{runs.STEP}` = 'sweep'"):
        machine, _, file = run.data.tags.get(LOCK, "").partition(":")
        if run.info.run_id == own.info.run_id or machine != platform.node():
            continue
        try:
            with FileLock(file, timeout=0):
                _end_below(run)
                _end(run)
                console.say(f"run {run.info.run_id} of a sweep that was ended is KILLED now")
        except Timeout:
            continue  # it is at work


def _end_below(run: Run) -> None:
    """Mark what still runs below a run, at any depth, as KILLED."""
    for each in _running(run.info.experiment_id, f"tags.`{MLFLOW_PARENT_RUN_ID}` != ''"):
        if run.info.run_id in _above(each):
            _end(each)


def _above(run: Run) -> Iterator[str]:
    """Yield the ids of a run's parent, its parent and so on."""
    while parent := run.data.tags.get(MLFLOW_PARENT_RUN_ID):
        yield parent
        run = MlflowClient().get_run(parent)


def _end(run: Run) -> None:
    runs.tag_error(run.info.run_id, "ended from outside")
    MlflowClient().set_terminated(run.info.run_id, "KILLED")


def _running(experiment_id: str, query: str) -> list[Run]:
    running = f"{query} and attributes.status = 'RUNNING'"
    return list(MlflowClient().search_runs([experiment_id], running, max_results=50_000))
