"""Versions of registered models."""

from collections.abc import Mapping

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry.model_version_status import ModelVersionStatus

from slmflow.console import messages
from slmflow.pipeline import registered_models

# The registry keeps at most this many characters of a version's description.
_DESCRIPTION_LENGTH = 5000

# Not one whose files were still on their way when its registration was broken off.
_READY = ModelVersionStatus.to_string(ModelVersionStatus.READY)


def put(name: str, alias: str, model_uri: str, description: str, tags: Mapping[str, str]) -> str:
    """Have a logged model as a version of `name`, point `alias` to it, return it.

    description: Markdown, shown on the version's page. The run that logged the model becomes the
    version's source run. Where the very model is a version already, that gets this description, and
    these tags in place of all of slmflow's. Raises UserError where the registry cannot be used.
    """
    version = _of(name, model_uri)
    if version is None:
        version = _added(name, model_uri, tags)
    else:
        messages.say(f"models:/{name}/{version} is this very model: its tags and aliases are set")
        _retag(name, version, tags)
    with registered_models.registry_errors():
        MlflowClient().update_model_version(name, version, description[:_DESCRIPTION_LENGTH])
    point(name, alias, version)
    return version


def _of(name: str, model_uri: str) -> str | None:
    """Return the newest version of `name` that a logged model is, if it is one."""
    with registered_models.registry_errors():
        found = mlflow.search_model_versions(filter_string=f"name='{name}'")
    same = [v for v in found if v.source == model_uri and v.status == _READY]
    return str(max(same, key=lambda v: int(v.version)).version) if same else None


def _added(name: str, model_uri: str, tags: Mapping[str, str]) -> str:
    # MLflow prints "Created version '1' of model ...": the step says so in its own words.
    with registered_models.registry_errors(), messages.quiet():
        return str(mlflow.register_model(model_uri, name, tags=dict(tags)).version)


def _retag(name: str, version: str, tags: Mapping[str, str]) -> None:
    with registered_models.registry_errors():
        client = MlflowClient()
        before = client.get_model_version(name, version).tags
        for key in before.keys() - tags.keys():
            if key.startswith(registered_models.TAG_PREFIX):
                client.delete_model_version_tag(name, version, key)
        for key, value in tags.items():
            if before.get(key) != value:
                client.set_model_version_tag(name, version, key, value)


def point(name: str, alias: str, version: str) -> None:
    """Point an alias to a version. Raises UserError where the registry cannot be used."""
    with registered_models.registry_errors():
        MlflowClient().set_registered_model_alias(name, alias, version)
