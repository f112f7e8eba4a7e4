"""Explain failures of the tracking server: the cause, and what to do."""

import logging
import os
import re
from collections.abc import Iterator

import mlflow
import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from slmflow.errors import UserError
from slmflow.pipeline import storage_errors, tracking_server

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
"""Environment variable that MLflow reads at each request; the delay doubles with each retry."""

_ACCESS_DENIED = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")
_UNAVAILABLE = (
    *("TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED"),
    *("REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"),
)

# MLflow's message for a request with no response, or with a response that is not MLflow's.
_NO_RESPONSE = re.compile(
    r"API request to \S+ failed with (exception|timeout|error code (429|5\d\d))", re.DOTALL
)

# The reason within a chain of connection errors, such as `[Errno 111] Connection refused`.
_REASON = re.compile(
    r"\[Errno [^\]]*\] [^'\")(]+|too many \d+ error responses|timed out|error code \d+"
    r"|Name or service not known|Remote end closed connection[\w ]*"
)


# MLflow's messages for an experiment or a run that cannot take a run.
_DELETED_EXPERIMENT = re.compile(r"experiment (\S+) must be in the 'active' state")
_NO_EXPERIMENT = re.compile(
    r"No Experiment with id|Could not find experiment|value `.*` does not exist"
)
_NO_RUN = re.compile(r"Run (with id=|')\S+ not found")


def explain(error: BaseException) -> UserError | None:
    """Return the error to show for a failure of the server or of storage; None for other failures.

    Then also stops retries: the server has already had the time to recover.
    """
    if isinstance(error, UserError):
        return None
    causes = list(reversed(list(_causes(error))))
    if storage := storage_errors.explain(causes):
        limit_retries()
        return UserError(storage)
    for cause in causes:
        if message := _message(cause):
            limit_retries()
            return UserError(message)
    return None


def limit_retries(retries: int = 0) -> None:
    """Limit how often MLflow retries a request, from now on."""
    os.environ[RETRIES] = str(retries)


def server_error(error: BaseException) -> UserError:
    """Return the error to show if no run can be started on the tracking server."""
    if isinstance(error, UserError):
        return error
    reason = str(error).splitlines()[0].rstrip(". ")
    return explain(error) or UserError(
        f"the tracking server {server_address()} cannot be used: {reason}. {_advice(reason)}"
    )


def _advice(reason: str) -> str:
    """Return what to do about a reason for which no run can be started."""
    if found := _DELETED_EXPERIMENT.search(reason):
        return (
            "Restore the experiment with mlflow experiments restore "
            f"--experiment-id {found[1]}, or name another one with --experiment-name"
        )
    if _NO_EXPERIMENT.search(reason):
        return "Name another experiment with --experiment-name, or MLFLOW_EXPERIMENT_NAME"
    if _NO_RUN.search(reason):
        problem = tracking_server.relative_database_problem()
        return problem or "Set MLFLOW_TRACKING_URI to the server that has the run"
    if "mlflow db upgrade" in reason:
        return "Or set MLFLOW_TRACKING_URI to another one"
    return "Set MLFLOW_TRACKING_URI to another one"


def server_address() -> str:
    """Return the URI of the tracking server without a user and password."""
    return re.sub(r"//[^/@\s]*@", "//", mlflow.get_tracking_uri())


def silence_database_log() -> None:
    """Stop MLflow from logging a database error with its traceback before it raises it."""
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, its cause, the cause's cause and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _message(error: BaseException) -> str | None:
    match error:
        case MlflowException(error_code=code) if code in _ACCESS_DENIED:
            return _access_denied(str(error))
        case requests.HTTPError(response=requests.Response(status_code=401 | 403)):
            return _access_denied(str(error))
        case OperationalError(orig=reason) if "already exists" in str(reason):
            return (
                f"the tracking database {server_address()} is incomplete ({reason}): MLflow was "
                "killed while it created or upgraded it. Move it away if it is new, else restore "
                "a copy"
            )
        case OperationalError(orig=reason):
            return (
                f"the tracking database {server_address()} cannot be used ({reason}): check that "
                f"it exists, is writable and has free space. {storage_errors.run_again()}"
            )
        case MlflowException(error_code=code) if code in _UNAVAILABLE or _NO_RESPONSE.search(
            str(error)
        ):
            return _unavailable(str(error))
        case requests.RequestException():
            return _unavailable(str(error))
    return None


def _access_denied(text: str) -> str:
    return (
        f"the tracking server {server_address()} denies access ({_shorten(text)}): set "
        "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, to an "
        "account with write access, or choose an experiment of your own with --experiment-name. "
        f"{storage_errors.run_again()}"
    )


def _unavailable(text: str) -> str:
    return (
        f"the tracking server {server_address()} does not answer ({_shorten(text)}): check that it "
        f"runs and that MLFLOW_TRACKING_URI is its address. {storage_errors.run_again()}"
    )


def _shorten(text: str) -> str:
    reasons = [match.group().strip() for match in _REASON.finditer(text)]
    return reasons[-1] if reasons else text.splitlines()[0][:200]
