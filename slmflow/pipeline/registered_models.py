"""Read registered models: their aliases and versions."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from slmflow.errors import UserError

TAG_PREFIX = "slmflow_"
"""Start of the names of the tags that slmflow sets on a version."""

# The error codes for a model that does not exist: MLflow's own registry, and Unity Catalog.
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")


def aliases(name: str) -> dict[str, str]:
    """Return the version under each alias of a model; empty if there is no such model.

    Raises UserError if the registry cannot be used.
    """
    with registry_errors():
        try:
            registered = MlflowClient().get_registered_model(name)
        except MlflowException as error:
            if error.error_code in _MISSING:
                return {}
            raise
    return {alias: str(version) for alias, version in registered.aliases.items()}


def version_by_alias(name: str, alias: str) -> ModelVersion | None:
    """Return the version of a model under an alias, or None.

    Raises UserError if the registry cannot be used.
    """
    version = aliases(name).get(alias)
    if version is None:
        return None
    with registry_errors():
        return MlflowClient().get_model_version(name, version)


def evaluation_run(version: ModelVersion) -> str | None:
    """Return the run id of the evaluation behind a version's metrics, from its tags."""
    run_id: str | None = version.tags.get(f"{TAG_PREFIX}run_evaluate")
    return run_id


@contextmanager
def registry_errors() -> Iterator[None]:
    """Turn errors of the model registry into UserError."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(". ")
        raise UserError(
            f"the model registry cannot be used: {reason}. Check "
            "MLFLOW_REGISTRY_URI, or MLFLOW_TRACKING_URI if it is not set, and your rights there"
        ) from error
