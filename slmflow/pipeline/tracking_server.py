"""Check before any work that the tracking server and the model registry can be used."""

import functools
import os
import re
from pathlib import Path

import mlflow
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from slmflow.errors import UserError

OLDEST_SERVER = (3, 0)
"""The first version of MLflow whose server keeps logged models."""

_TRACKING, _REGISTRY = "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"
_VERSION = re.compile(r"(\d+)\.(\d+)(\.\w+)*")
_TIMEOUT_S = 30


def check() -> None:
    """Raise UserError if the server is too old, or a database is not where others look for it."""
    uris = {_TRACKING: mlflow.get_tracking_uri(), _REGISTRY: mlflow.get_registry_uri()}
    if uris[_REGISTRY] == uris[_TRACKING]:
        del uris[_REGISTRY]
    for name, uri in uris.items():
        if uri.startswith(("http://", "https://")):
            _check_version(uri)
        elif (file := _relative_database(uri)) is not None:
            _make_absolute(name, uri, file)


def relative_database_problem() -> str | None:
    """Return what is wrong with the URI of a tracking database that does not have the run."""
    uri = mlflow.get_tracking_uri()
    file = _relative_database(uri)
    return None if file is None else _relative_problem(_TRACKING, uri, file)


@functools.cache
def _check_version(uri: str) -> None:
    """Raise UserError if a server says that it is too old; one behind a proxy may not say."""
    credentials = get_default_host_creds(uri)
    response = http_request(
        credentials, "/version", "GET", timeout=_TIMEOUT_S, raise_on_status=False
    )
    found = _VERSION.fullmatch(response.text.strip()) if response.status_code == 200 else None
    if found is None or (int(found[1]), int(found[2])) >= OLDEST_SERVER:
        return
    oldest = ".".join(map(str, OLDEST_SERVER))
    raise UserError(
        f"the tracking server {uri} is MLflow {found[0]}, and this client MLflow "
        f"{mlflow.__version__} needs a server of {oldest} or later, which keeps logged models: "
        "upgrade the server, or set MLFLOW_TRACKING_URI to another one"
    )


def database_file(uri: str) -> Path | None:
    """Return the file of a SQLite database; None for any other URI."""
    try:
        url = make_url(uri)
    except ArgumentError:
        return None
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    return Path(url.database)


def _relative_database(uri: str) -> Path | None:
    """Return the file of a SQLite database if the URI has a relative path."""
    file = database_file(uri)
    return None if file is None or file.is_absolute() else file


def _make_absolute(name: str, uri: str, file: Path) -> None:
    """Make the path of a database absolute, for the steps that this one launches.

    Raises UserError if a command in another folder has launched this step: it knows another file.
    """
    if "MLFLOW_RUN_ID" in os.environ and not file.is_file():
        raise UserError(_relative_problem(name, uri, file))
    absolute = f"sqlite:///{file.absolute()}"
    os.environ[name] = absolute
    if name == _TRACKING:
        mlflow.set_tracking_uri(absolute)
    else:
        mlflow.set_registry_uri(absolute)


def _relative_problem(name: str, uri: str, file: Path) -> str:
    return (
        f"{name}={uri} is a relative path: the command that launched this step used {file} in its "
        f"own folder, and the step looks for it in {Path.cwd()}. Set the whole path: "
        f"export {name}=sqlite:///$PWD/{file}"
    )
