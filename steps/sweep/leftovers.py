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
    """Mark as KILLED the runs of sweeps whose process on this machine is no more."""
    dead: dict[str, bool] = {}
    for run in _running(own.info.experiment_id):
        for sweep in _lineage(run):
            if LOCK not in sweep.data.tags or sweep.info.run_id == own.info.run_id:
                continue
            if dead.setdefault(sweep.info.run_id, _is_dead(sweep)):
                _end(run)
                console.say(f"run {run.info.run_id} of a sweep that was ended is KILLED now")


def _is_dead(sweep: Run) -> bool:
    machine, _, file = sweep.data.tags[LOCK].partition(":")
    if machine != platform.node():
        return False
    try:
        with FileLock(file, timeout=0):
            return True
    except Timeout:
        return False  # it is at work


def _end_below(sweep: Run) -> None:
    """Mark what still runs below a run, at any depth, as KILLED."""
    for run in _running(sweep.info.experiment_id):
        above = [each.info.run_id for each in _lineage(run)][1:]
        if sweep.info.run_id in above:
            _end(run)


def _lineage(run: Run) -> Iterator[Run]:
    """Yield a run, its parent, the parent's parent and so on."""
    yield run
    while parent := run.data.tags.get(MLFLOW_PARENT_RUN_ID):
        run = MlflowClient().get_run(parent)
        yield run


def _end(run: Run) -> None:
    runs.tag_error(run.info.run_id, "ended from outside")
    MlflowClient().set_terminated(run.info.run_id, "KILLED")


def _running(experiment_id: str) -> list[Run]:
    query = "attributes.status = 'RUNNING'"
    return list(MlflowClient().search_runs([experiment_id], query, max_results=50_000))
