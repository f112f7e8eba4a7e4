"""Versions of registered models."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from steps.common.console import quiet
from steps.common.errors import UserError

# The registry keeps at most this many characters of a version's description.
_DESCRIPTION_LENGTH = 5000

# What registries say of a model that is not there: MLflow's own, and Unity Catalog.
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")


def add(name: str, alias: str, model_uri: str, description: str, tags: Mapping[str, str]) -> str:
    """Register a logged model as the next version of `name`, point `alias` to it, return it.

    description: Markdown, shown on the version's page. The run that logged the model becomes the
    version's source run. Raises UserError where the registry cannot be used.
    """
    # MLflow prints "Created version '1' of model ...": the step says so in its own words.
    with _usable(), quiet():
        registered = mlflow.register_model(model_uri, name, tags=dict(tags))
        client = MlflowClient()
        client.update_model_version(name, registered.version, description[:_DESCRIPTION_LENGTH])
    point(name, alias, str(registered.version))
    return str(registered.version)


def point(name: str, alias: str, version: str) -> None:
    """Point an alias to a version. Raises UserError where the registry cannot be used."""
    with _usable():
        MlflowClient().set_registered_model_alias(name, alias, version)


def aliases(name: str) -> dict[str, str]:
    """Return the version under each alias of a model, none where there is no such model.

    Raises UserError where the registry cannot be used.
    """
    with _usable():
        try:
            found = MlflowClient().get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code in _MISSING:
                return {}
            raise
    return {alias: str(version) for alias, version in found.items()}


def under(name: str, alias: str) -> ModelVersion | None:
    """Return the version of a model under an alias, if there is one.

    Raises UserError where the registry cannot be used.
    """
    version = aliases(name).get(alias)
    if version is None:
        return None
    with _usable():
        return MlflowClient().get_model_version(name, version)


@contextmanager
def _usable() -> Iterator[None]:
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(". ")
        raise UserError(
            f"the model registry cannot be used: {reason}. Check "
            "MLFLOW_REGISTRY_URI, or MLFLOW_TRACKING_URI where it is not set, and your rights there"
        ) from error
