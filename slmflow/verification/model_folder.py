"""The local folder of a logged model, downloaded if necessary."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from slmflow.pipeline.model_uris import unreadable_error


@contextmanager
def open_local(model_uri: str) -> Iterator[Path]:
    """Yield the local folder of `verify.model_uri`; a download is deleted afterwards.

    Raises BadArguments if there is no model. Unlike MLflow's own download, this does not write into
    the folder of a registered model.
    """
    with tempfile.TemporaryDirectory() as scratch:
        try:
            repository = get_artifact_repository(model_uri)
            while (inner := getattr(repository, "repo", None)) is not None:
                repository = inner
            is_local = isinstance(repository, LocalArtifactRepository)
            folder = Path(repository.download_artifacts("", None if is_local else scratch))
            if not folder.is_dir():
                raise NotADirectoryError(f"{folder} is not a folder")
        except (MlflowException, OSError) as error:
            raise unreadable_error("verify.model_uri", model_uri, error) from error
        yield folder
