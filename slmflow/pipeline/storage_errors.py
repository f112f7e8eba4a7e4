"""Explain failures of artifact stores, and packages that storage needs but that are missing."""

import errno
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path

from slmflow.pipeline import store

# What MLflow imports for a kind of storage, and the file with the pins of its packages.
_REQUIREMENTS = {
    "boto3": "requirements-s3.txt",
    "botocore": "requirements-s3.txt",
    "google.auth": "requirements-gcs.txt",
    "google.cloud": "requirements-gcs.txt",
    "azure": "requirements-azure.txt",
    "psycopg": "requirements-postgres.txt",
}

# Packages of other storage that MLflow knows, none of which slmflow pins.
_OTHER_PACKAGES = {
    "MySQLdb": "pymysql, and begin the URI with mysql+pymysql://",
    "pymysql": "pymysql",
    "pyodbc": "pyodbc",
    "pymssql": "pymssql",
    "psycopg2": "psycopg2-binary, or begin the URI with postgresql://",
    "pysftp": "pysftp",
    "paramiko": "pysftp",
}

# Clients of artifact stores; each has errors of its own.
_CLIENTS = re.compile(
    r"(boto3|botocore|s3transfer|google\.(auth|cloud|api_core|resumable_media)|azure"
    r"|pysftp|paramiko|ftplib)\b"
)

_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, and "
    "MLFLOW_S3_ENDPOINT_URL if it is not Amazon's",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or run gcloud auth application-default login",
    "wasbs": "AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCESS_KEY, or run az login",
    "abfss": "AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET, or run az login",
}

PROXY = "/mlflow-artifacts/"
"""The part of a tracking server that reads and writes artifacts for its clients."""

_PROXY_RETRIES = re.compile(
    rf"API request to \S+{PROXY}\S+ failed.*?(too many 5\d\d error|ProtocolError|Read timed out)",
    re.DOTALL,
)

_DOWNLOAD = re.compile(
    r"failures occurred while downloading one or more artifacts from (\S+):\s*"
    r"(?:##### File .*\s)?(.*)"
)


_REASONS = {
    "ProtocolError": "it drops the connection",
    "Read timed out": "it does not finish a transfer",
}

# What the system answers where this machine may not write.
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)

# A file that is not there is no fault of the store.
_MISSING = re.compile(r"\b404\b|NoSuchKey|Not Found|No such (file|artifact)", re.IGNORECASE)


def explain(causes: Sequence[BaseException]) -> str | None:
    """Return why storage cannot be used and what to do, from an error and its causes, or None."""
    for cause in causes:
        if isinstance(cause, ModuleNotFoundError) and (message := _missing_package(cause)):
            return message
    for cause in causes:
        if message := _store_message(cause):
            return message
    return None


def _missing_package(error: ModuleNotFoundError) -> str | None:
    name = f"{error.name}."
    packages = (each for each in (*_REQUIREMENTS, *_OTHER_PACKAGES) if name.startswith(f"{each}."))
    if (package := next(packages, None)) is None:
        return None
    install = (
        f"-r {_REQUIREMENTS[package]}" if package in _REQUIREMENTS else _OTHER_PACKAGES[package]
    )
    return (
        f"{_storage(package)} needs the package {error.name}, which is not installed: "
        f"uv pip install {install}, and run with --env-manager local "
        "(docs/tracking_servers.md)"
    )


def _storage(package: str) -> str:
    """Return the URI of what needs a package: the artifact store or a database."""
    databases = ("psycopg", "MySQLdb", "pymysql", "pyodbc", "pymssql")
    if package.startswith(databases):
        uris = (mlflow.get_tracking_uri(), mlflow.get_registry_uri())
        uri = next((uri for uri in uris if package[:5].lower() in uri.lower()), uris[0])
        return f"the database {uri}"
    return f"the artifact store {_address()}"


def _store_message(error: BaseException) -> str | None:
    match error:
        case MlflowException() if (found := _DOWNLOAD.search(str(error))) and not (
            _MISSING.search(found[2])
        ):
            return _unusable(found[1], found[2])
        case MlflowException() if found := _PROXY_RETRIES.search(str(error)):
            return _behind_server(_REASONS.get(found[1], found[1].removeprefix("too many ")))
        case requests.HTTPError(response=requests.Response(status_code=code, url=str(url))) if (
            code >= 500 and PROXY in url
        ):
            return _behind_server(f"{code} error")
        case OSError(errno=number, filename=str(path), strerror=reason) if (
            number in _FORBIDDEN and _is_in_store(path)
        ):
            return (
                f"the artifact store {_address()} is a folder that this machine cannot use "
                f"({reason}: {path}). If it is a folder of the tracking server's machine, start "
                "the server without --no-serve-artifacts and --default-artifact-root, and use a "
                f"new experiment. {run_again()}"
            )
        case _ if _CLIENTS.match(type(error).__module__):
            return _unusable(_address(), str(error) or type(error).__name__)
    return None


def _unusable(uri: str, reason: str) -> str:
    credentials = _CREDENTIALS.get(urlsplit(uri).scheme, "its credentials")
    return (
        f"the artifact store {uri} cannot be used "
        f"({reason.splitlines()[0].rstrip('. ')}): check that it runs, and set {credentials}, to "
        f"an account that may read and write there. {run_again()}"
    )


def _behind_server(reason: str) -> str:
    return (
        f"the tracking server {mlflow.get_tracking_uri()} answers, but cannot "
        f"use its artifact store ({reason}): the server's log has the reason; check the "
        f"store and the server's credentials for it. {run_again()}"
    )


def run_again() -> str:
    """Return the advice to repeat a command whose finished work is kept."""
    return f"Then run the same command again: finished entries of the store {store.home()} remain"


def _address() -> str:
    """Return where the current run stores its artifacts, without the folders of the run."""
    if (run := mlflow.active_run()) is None:
        return "of the tracking server"
    uri: str = run.info.artifact_uri
    folder = uri.removesuffix(f"/{run.info.run_id}/artifacts")
    return folder.removesuffix(f"/{run.info.experiment_id}")


def _is_in_store(path: str) -> bool:
    """Return whether a path belongs to the artifacts of the current run, or contains them."""
    if (run := mlflow.active_run()) is None or "://" in run.info.artifact_uri.replace(
        "file://", ""
    ):
        return False
    folder = Path(local_file_uri_to_path(run.info.artifact_uri))
    return Path(path).is_relative_to(folder) or folder.is_relative_to(path)
