"""Have a process ready from which the steps that a step launches are forked."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
from mlflow.store.db.db_types import DATABASE_ENGINES

from slmflow.pipeline import source_code
from slmflow.pipeline.results import FLOW
from slmflow.system import fork_server, forked_process

_WITHOUT_RESULT = ("main", "sweep")


@contextmanager
def serving(step: str) -> Iterator[None]:
    """Fork such a process while this one has one thread, no connection and no lock.

    Does nothing for a step that launches no other. First does what this step and all others need:
    their forks have it.
    """
    launches = step in _WITHOUT_RESULT or any(k.consumes for k in FLOW if k.step == step)
    if not launches or fork_server.is_fork() or not forked_process.is_supported():
        yield
        return
    if _is_database(mlflow.get_tracking_uri()):
        importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
    for kind in FLOW:
        source_code.digest(f"steps.{kind.step}")
    with forked_process.serving():
        yield


def _is_database(tracking_uri: str) -> bool:
    return tracking_uri.partition(":")[0].partition("+")[0] in DATABASE_ENGINES
