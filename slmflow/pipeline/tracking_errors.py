"""The tracking server when it fails: what is wrong with it, in words, and what to do."""

import logging
import os
import re
from collections.abc import Iterator

import mlflow
import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from slmflow.errors import UserError
from slmflow.pipeline import store

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
"""Read by MLflow at each request; each next try comes after twice the time."""

_REFUSED = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")
_AWAY = (
    *("TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED"),
    *("REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"),
)

# MLflow's words for a request without an answer, or with one that is not MLflow's.
_NO_ANSWER = re.compile(
    r"API request to \S+ failed with (exception|timeout|error code (429|5\d\d))", re.DOTALL
)

# What in a chain of connection errors says why, such as `[Errno 111] Connection refused`.
_REASON = re.compile(
    r"\[Errno [^\]]*\] [^'\")(]+|too many \d+ error responses|timed out|error code \d+"
    r"|Name or service not known|Remote end closed connection[\w ]*"
)


# MLflow logs a database's fault with its traceback before it raises it: it is told once, here.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def explain(error: BaseException) -> UserError | None:
    """Return what to tell where an error is the tracking server's; None where it is another's.

    A server that is away was given its time by then: MLflow asks it no second time after this.
    """
    if isinstance(error, UserError):
        return None
    for each in reversed(list(_chain(error))):
        if told := _told(each):
            limit_retries()
            return UserError(told)
    return None


def limit_retries(retries: int = 0) -> None:
    """Have MLflow try a request only so many times more, from now on."""
    os.environ[RETRIES] = str(retries)


def server_error(error: BaseException) -> UserError:
    """Return why no run can be begun on the tracking server."""
    return explain(error) or UserError(
        f"the tracking server {server_address()} cannot be used: "
        f"{str(error).splitlines()[0]}. Set MLFLOW_TRACKING_URI to one that can"
    )


def server_address() -> str:
    """Return where the tracking server is, without the user and password that may be in it."""
    return re.sub(r"//[^/@\s]*@", "//", mlflow.get_tracking_uri())


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, what it came of, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _told(error: BaseException) -> str | None:
    match error:
        case MlflowException(error_code=code) if code in _REFUSED:
            return _refusal(str(error))
        case requests.HTTPError(response=requests.Response(status_code=401 | 403)):
            return _refusal(str(error))
        case OperationalError(orig=reason) if "already exists" in str(reason):
            return (
                f"the tracking database {server_address()} is half-made ({reason}): MLflow was ended "
                "while it made or upgraded it. Move it away if it is new, else put back a copy"
            )
        case OperationalError(orig=reason):
            return (
                f"the tracking database {server_address()} cannot be used ({reason}): see that it is "
                f"there, with room, and may be written. {_again()}"
            )
        case MlflowException(error_code=code) if code in _AWAY or _NO_ANSWER.search(str(error)):
            return _absence(str(error))
        case requests.RequestException():
            return _absence(str(error))
    return None


def _refusal(said: str) -> str:
    return (
        f"the tracking server {server_address()} refuses ({_short(said)}): set MLFLOW_TRACKING_TOKEN, or "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, to an account that may write "
        f"there. {_again()}"
    )


def _absence(said: str) -> str:
    return (
        f"the tracking server {server_address()} does not answer ({_short(said)}): see that it runs and "
        f"that MLFLOW_TRACKING_URI is its address. {_again()}"
    )


def _again() -> str:
    return f"Then run the same command again: what lies whole in the store {store.home()} is reused"


def _short(said: str) -> str:
    reasons = [match.group().strip() for match in _REASON.finditer(said)]
    return reasons[-1] if reasons else said.splitlines()[0][:200]
