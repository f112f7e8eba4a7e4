"""URIs of MLflow models from the user: `models:/...`, `runs:/...` or a folder."""

import functools
import hashlib
import json
import re
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.utils.models import get_model_name_and_version
from sqlalchemy.exc import SQLAlchemyError

from slmflow.config.schema.config import Config
from slmflow.errors import BadArguments
from slmflow.pipeline import registered_models

REGISTERED = "registered"
"""In place of a URI: the version that `register` registered for the target."""

# A version or a logged model, which do not change.
_PINNED = re.compile(r"models:(//[^/]+)?/([^/@]+/\d+|m-[^/@]+)")


def resolve(model_uri: str, config: Config) -> str:
    """Return a model URI; for `registered`, that of the version with the configured alias.

    If the target of the config has a version of its own, it is that one. Raises UserError if the
    registry cannot be used.
    """
    if model_uri != REGISTERED:
        return model_uri
    registry = config.registry
    of_target = registered_models.alias_of_target(registry.alias, config.target.name)
    has_own = of_target in registered_models.aliases(registry.name)
    return f"models:/{registry.name}@{of_target if has_own else registry.alias}"


def pin(key: str, model_uri: str) -> str:
    """Return the URI of the version that an alias, a stage or `latest` stands for now.

    Other URIs are returned as they are. key: the config key with the URI, for the message. Raises
    BadArguments if there is no such version.
    """
    if not model_uri.startswith("models:") or _PINNED.fullmatch(model_uri):
        return model_uri
    try:
        found = get_model_name_and_version(MlflowClient(), model_uri)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise unreadable_error(key, model_uri, error) from error
    if len(found) == 1:
        return model_uri
    host = urlsplit(model_uri).netloc
    name, version = found
    return f"models:{f'//{host}' * bool(host)}/{name}/{version}"


def load_metadata(key: str, model_uri: str) -> Model:
    """Return MLflow's metadata of a model.

    key: the config key with the URI, for the message. Raises BadArguments if there is no model.
    """
    try:
        if _PINNED.fullmatch(model_uri):
            return _load_pinned(model_uri, mlflow.get_tracking_uri(), mlflow.get_registry_uri())
        return Model.load(model_uri)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise unreadable_error(key, model_uri, error) from error


@functools.cache
def _load_pinned(model_uri: str, tracking_uri: str, registry_uri: str) -> Model:
    """Return the metadata of a model that does not change, on these servers."""
    return Model.load(model_uri)


def identity(key: str, model_uri: str) -> str:
    """Return what identifies the model that a URI stands for, whatever its name.

    It is the id of a saved model; a model of an old MLflow, without one, has a digest. Raises
    BadArguments if there is no model.
    """
    model = load_metadata(key, model_uri)
    metadata = json.dumps(model.to_dict(), sort_keys=True, default=str)
    return model.model_uuid or hashlib.sha256(metadata.encode()).hexdigest()


def artifact_repository(model_uri: str) -> ArtifactRepository:
    """Return what reads the files of a model. Raises MlflowException if there is no model.

    Unlike MLflow's own for registered models, it writes nothing into their folder, and it finds a
    logged model under the URI of its run, too.
    """
    repository = _unwrapped(model_uri)
    if not model_uri.startswith("runs:"):
        return repository
    if any(file.path == MLMODEL_FILE_NAME for file in repository.list_artifacts()):
        return repository  # as MLflow 2 logged models, among the artifacts of their run
    return _unwrapped(f"models:/{Model.load(model_uri).model_id}")


def _unwrapped(uri: str) -> ArtifactRepository:
    repository = get_artifact_repository(uri)
    while (inner := getattr(repository, "repo", None)) is not None:
        repository = inner
    return repository


def unreadable_error(key: str, model_uri: str, error: Exception) -> BadArguments:
    """Return the error to raise if no model can be read from the URI in a config key."""
    reason = str(error).partition("\n")[0].rstrip(". ")
    return BadArguments(
        f"{key}={model_uri!r}: no model can be read from there ({reason}); give the URI of a "
        "logged model, such as models:/NAME/VERSION, models:/NAME@ALIAS or models:/m-..., "
        + (_FIND_ADVICE if key.startswith("model.") else _RUN_ADVICE)
    )


_FIND_ADVICE = (
    "which the MLflow UI shows: the page Models has registered models with their versions and "
    "aliases, the page of a run what it logged; MLFLOW_TRACKING_URI is the server that is asked"
)
_RUN_ADVICE = "or run the workflow first, which registers one"
