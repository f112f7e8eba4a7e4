"""Create and update versions of registered models."""

from collections.abc import Mapping

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry.model_version_status import ModelVersionStatus

from slmflow.console import library_output, messages
from slmflow.pipeline.registered_models import TAG_PREFIX, registry_errors

# MLflow's limit for the description of a version.
_MAX_DESCRIPTION_CHARACTERS = 5000

# A version with another status may lack files: its registration was interrupted.
_READY = ModelVersionStatus.to_string(ModelVersionStatus.READY)


def register_version(
    name: str, alias: str, model_uri: str, description: str, tags: Mapping[str, str]
) -> str:
    """Register a logged model as a version of `name` and set the alias; return the version.

    description: Markdown for the version's page. The run that logged the model becomes the source
    run of the version. If the model is already a version, that one gets the description, and the
    tags in place of all previous tags of slmflow. Raises UserError if the registry cannot be used.
    """
    version = _find_version(name, model_uri)
    if version is None:
        version = _create_version(name, model_uri, tags)
    else:
        messages.info(
            f"the model is already models:/{name}/{version}: updating its tags and aliases"
        )
        _replace_tags(name, version, tags)
    with registry_errors():
        description = description[:_MAX_DESCRIPTION_CHARACTERS]
        MlflowClient().update_model_version(name, version, description)
    set_alias(name, alias, version)
    return version


def set_alias(name: str, alias: str, version: str) -> None:
    """Point an alias to a version. Raises UserError if the registry cannot be used."""
    with registry_errors():
        MlflowClient().set_registered_model_alias(name, alias, version)


def _find_version(name: str, model_uri: str) -> str | None:
    """Return the newest version of `name` that is this logged model, or None."""
    with registry_errors():
        versions = mlflow.search_model_versions(filter_string=f"name='{name}'")
    same = [v for v in versions if v.source == model_uri and v.status == _READY]
    return str(max(same, key=lambda v: int(v.version)).version) if same else None


def _create_version(name: str, model_uri: str, tags: Mapping[str, str]) -> str:
    # Hides MLflow's "Created version '1' of model ...": the step prints its own message.
    with registry_errors(), library_output.silence():
        return str(mlflow.register_model(model_uri, name, tags=dict(tags)).version)


def _replace_tags(name: str, version: str, tags: Mapping[str, str]) -> None:
    with registry_errors():
        client = MlflowClient()
        before = client.get_model_version(name, version).tags
        for key in before.keys() - tags.keys():
            if key.startswith(TAG_PREFIX):
                client.delete_model_version_tag(name, version, key)
        for key, value in tags.items():
            if before.get(key) != value:
                client.set_model_version_tag(name, version, key, value)
