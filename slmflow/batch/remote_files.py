"""Input and output of a batch job at a URI, read and written through MLflow's artifact clients."""

import hashlib
import posixpath
import tempfile
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from slmflow.errors import UserError
from slmflow.paths import PROJECT, is_uri
from slmflow.pipeline import store, tracking_errors


def local_input(value: str) -> Path:
    """Return the local path of the input; one at a URI is downloaded into a temporary folder.

    Raises UserError if it cannot be read.
    """
    if not is_uri(value):
        return PROJECT / value
    folder = tempfile.mkdtemp()
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=value, dst_path=folder))
    except Exception as error:  # of any storage's client
        raise _fault("batch.input", value, "cannot be read", error) from error


def local_output(value: str) -> Path:
    """Return where the output is written: for a URI a file in the store, to be uploaded."""
    if not is_uri(value):
        return PROJECT / value
    folder = store.workspace() / store.BATCH / hashlib.sha256(value.encode()).hexdigest()[:16]
    store.make_folder(folder)
    file = folder / posixpath.basename(value)
    file.unlink(missing_ok=True)  # of a job whose upload failed; its answers are stored beside
    return file


def require_absent(value: str) -> None:
    """Raise UserError if the output at a URI exists, or the storage cannot be used."""
    try:
        name = posixpath.basename(value)
        listed = _repository(value).list_artifacts()
    except Exception as error:  # of any storage's client
        raise _fault("batch.output", value, "cannot be written", error) from error
    if any(posixpath.basename(file.path) == name for file in listed):
        raise UserError(f"batch.output={value!r} already exists: delete it, or choose another name")


def upload(file: Path, value: str) -> None:
    """Move a finished output to its URI. Raises UserError if the storage cannot be used."""
    try:
        _repository(value).log_artifact(str(file))
    except Exception as error:  # of any storage's client
        raise _fault("batch.output", value, "cannot be written", error) from error
    file.unlink()


def _repository(value: str) -> ArtifactRepository:
    """Return the client of the folder of a URI."""
    return get_artifact_repository(posixpath.dirname(value))


def _fault(key: str, value: str, what: str, error: Exception) -> UserError:
    explained = tracking_errors.explain(error)
    reason = str(explained or error).splitlines()[-1 if isinstance(error, MlflowException) else 0]
    return UserError(f"{key}={value!r}: {what} ({reason}); check the address and your rights there")
