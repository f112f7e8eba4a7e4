"""Read registered models: their aliases and versions."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from slmflow.errors import UserError

TAG_PREFIX = "slmflow_"
"""Start of the names of the tags that slmflow sets on a version."""

MISSING = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")
"""The error codes for a model that does not exist: MLflow's own registry, and Unity Catalog."""


def alias_of_target(alias: str, target: str) -> str:
    """Return the alias of the newest version for a target, such as `candidate-cpu_int8`."""
    return f"{alias}-{target_in_alias(target)}"


def target_in_alias(target: str) -> str:
    """Return a target's name with the characters that MLflow allows in an alias."""
    return re.sub(r"[^\w-]", "_", target, flags=re.ASCII)


def aliases(name: str) -> dict[str, str]:
    """Return the version under each alias of a model; empty if there is no such model.

    Raises UserError if the registry cannot be used.
    """
    with registry_errors():
        try:
            registered = MlflowClient().get_registered_model(name)
        except MlflowException as error:
            if error.error_code in MISSING:
                return {}
            raise
    return {alias: str(version) for alias, version in registered.aliases.items()}


def version(name: str, number: str) -> ModelVersion:
    """Return a version of a model. Raises UserError if there is none."""
    with registry_errors():
        return MlflowClient().get_model_version(name, number)


def version_by_alias(name: str, alias: str) -> ModelVersion | None:
    """Return the version of a model under an alias, or None.

    Raises UserError if the registry cannot be used.
    """
    number = aliases(name).get(alias)
    return None if number is None else version(name, number)


def evaluation_run(tags: Mapping[str, str]) -> str | None:
    """Return the run id of the evaluation behind a version's metrics, from its tags."""
    return tags.get(f"{TAG_PREFIX}run_evaluate")


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
