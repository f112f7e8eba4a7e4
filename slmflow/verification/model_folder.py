"""The files of a logged model, where they lie or, from a server elsewhere, in a copy."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from slmflow.pipeline.model_uris import unreadable


@contextmanager
def local(key: str, address: str) -> Iterator[Path]:
    """Yield the folder of the model at an address; a copy is gone afterwards.

    key: the option that holds the address. Raises BadArguments where there is no model. MLflow's
    own download writes into the folder of a registered model; this does not.
    """
    with tempfile.TemporaryDirectory() as scratch:
        try:
            repository = get_artifact_repository(address)
            while (inner := getattr(repository, "repo", None)) is not None:
                repository = inner
            here = isinstance(repository, LocalArtifactRepository)
            folder = Path(repository.download_artifacts("", None if here else scratch))
            if not folder.is_dir():
                raise NotADirectoryError(f"{folder} is no folder")
        except (MlflowException, OSError) as error:
            raise unreadable(key, address, error) from error
        yield folder
