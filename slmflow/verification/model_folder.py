"""The local folder of a logged model, downloaded if necessary."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from slmflow.pipeline import model_uris


@contextmanager
def open_local(model_uri: str) -> Iterator[Path]:
    """Yield the local folder of `verify.model_uri`; a download is deleted afterwards.

    Raises BadArguments if there is no model.
    """
    with tempfile.TemporaryDirectory() as scratch:
        try:
            repository = model_uris.artifact_repository(model_uri)
            is_local = isinstance(repository, LocalArtifactRepository)
            folder = Path(repository.download_artifacts("", None if is_local else scratch))
            if not folder.is_dir():
                raise NotADirectoryError(f"{folder} is not a folder")
        except (MlflowException, OSError) as error:
            raise model_uris.unreadable_error("verify.model_uri", model_uri, error) from error
        yield folder
