"""The MLflow runs of steps: find a finished one, set tags and params."""

from contextlib import AbstractContextManager
from typing import Any, TypeVar

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from slmflow.console import messages
from slmflow.console.redaction import redact
from slmflow.pipeline import results, store
from slmflow.pipeline.results import AbsentResult, InvalidResult, Result

STEP = "slmflow.step"
KEY = "slmflow.key"
ANSWERS_KEY = "slmflow.answers_key"
ROOT = "slmflow.root"
REUSED_FROM = "slmflow.reused_from"
ERROR = "slmflow.error"
GIT_COMMIT = "slmflow.git_commit"
GIT_DIRTY = "slmflow.git_dirty"

MAX_RUNS = 50_000
"""The most runs that a tracking server returns at once."""

_MAX_TAG_LENGTH = 5000  # of a tracking server

R = TypeVar("R", bound=Result)


def lock_result(kind: type[Result], key: str) -> AbstractContextManager[None]:
    """Return the lock on a result: of two processes that need it, one builds, the other waits."""
    return store.lock(f"{kind.step}-run-{key}")


def find_finished(
    kind: type[R], key: str, experiment_id: str, *, warn: bool = True, root: str | None = None
) -> tuple[R, str] | None:
    """Return the newest finished result with this key that is still valid, and its run's id.

    warn: say why a run is not reused. That its files are in another user's store needs no warning.
    root: only the runs below this one count, or this one.
    """
    for run in _finished_runs(kind, key, experiment_id, root):
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


def load_result(kind: type[R], run_id: str) -> R:
    """Return the result that a run logged. Raises MlflowException if it has none."""
    return kind.from_json(mlflow.artifacts.load_dict(f"runs:/{run_id}/{results.FILE}"))


def tag_error(run_id: str, message: str) -> None:
    """Tag a run with the reason of its failure."""
    MlflowClient().set_tag(run_id, ERROR, redact(message)[:_MAX_TAG_LENGTH])


def log_params(run: Run, params: dict[str, Any]) -> None:
    """Log params except those that MLflow logged from `-P`: a param cannot change."""
    mlflow.log_params({k: v for k, v in params.items() if k not in run.data.params})


def _finished_runs(
    kind: type[Result], key: str, experiment_id: str, root: str | None = None
) -> list[Run]:
    """Return the finished runs of a step with this key, the newest first."""
    query = f"tags.`{STEP}` = '{kind.step}' and tags.`{KEY}` = '{key}'"
    if root is not None:
        query += f" and tags.`{ROOT}` = '{root}'"
    return list(
        MlflowClient().search_runs(
            [experiment_id],
            f"{query} and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
        )
    )
