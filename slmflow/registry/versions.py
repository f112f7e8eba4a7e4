"""Create and update versions of registered models."""

from collections.abc import Mapping, Sequence

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.entities.model_registry.model_version_status import ModelVersionStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from slmflow.console import library_output, messages
from slmflow.pipeline.registered_models import MISSING, TAG_PREFIX, registry_errors
from slmflow.registry.stage_tags import KEPT

# MLflow's limit for the description of a version.
_MAX_DESCRIPTION_CHARACTERS = 5000

# A version with another status may lack files: its registration was interrupted.
_READY = ModelVersionStatus.to_string(ModelVersionStatus.READY)


def find_version(name: str, model_uri: str, key_tag: tuple[str, str] | None) -> ModelVersion | None:
    """Return the newest version of `name` that is this logged model, or None.

    key_tag: the tag with the key of the step that logs the model. A version with the same tag is
    the same model, logged in another experiment; it counts while its files can be read. Raises
    UserError if the registry cannot be used.
    """
    with registry_errors():
        versions = mlflow.search_model_versions(filter_string=f"name='{name}'")
    ready = [v for v in versions if v.status == _READY]
    ready.sort(key=lambda v: int(v.version), reverse=True)
    for version in ready:
        if version.source == model_uri:
            return version
    if key_tag is None:
        return None
    tag, key = key_tag
    for version in ready:
        if version.tags.get(tag) == key and _can_be_read(version):
            return version
    return None


def register_version(
    name: str,
    aliases: Sequence[str],
    model_uri: str,
    description: str,
    tags: Mapping[str, str],
    existing: ModelVersion | None = None,
) -> str:
    """Register a logged model as a version of `name` and set aliases; return the version.

    description: Markdown for the version's page. The run that logged the model becomes the source
    run of the version. existing: the one that is this model already: it gets the description, and
    the tags in place of those of its registration. Raises UserError if the registry cannot be
    used.
    """
    if existing is None:
        version = _create_version(name, model_uri, tags)
    else:
        version = str(existing.version)
        messages.info(
            f"the model is already models:/{name}/{version}: updating its tags and aliases"
        )
        _replace_tags(name, version, tags)
    with registry_errors():
        description = description[:_MAX_DESCRIPTION_CHARACTERS]
        MlflowClient().update_model_version(name, version, description)
    set_aliases(name, aliases, version)
    return version


def keep_measurement(version: ModelVersion, aliases: Sequence[str], rows: int) -> str:
    """Set aliases of a version that is measured on more rows than now; return the version.

    Its metrics and their lineage stay. Raises UserError if the registry cannot be used.
    """
    messages.info(
        f"the model is already models:/{version.name}/{version.version}, which keeps its metrics: "
        f"they are of more rows than the {rows} of this run"
    )
    set_aliases(version.name, aliases, str(version.version))
    return str(version.version)


def is_usable(name: str, number: str) -> bool:
    """Return whether a version is complete and its model can be read.

    Raises UserError if the registry cannot be used.
    """
    with registry_errors():
        try:
            version = MlflowClient().get_model_version(name, number)
        except MlflowException as error:
            if error.error_code in MISSING:
                return False
            raise
    return version.status == _READY and _can_be_read(version)


def set_aliases(name: str, aliases: Sequence[str], version: str) -> None:
    """Point aliases to a version. Raises UserError if the registry cannot be used."""
    with registry_errors():
        for alias in aliases:
            MlflowClient().set_registered_model_alias(name, alias, version)


def _can_be_read(version: ModelVersion) -> bool:
    """Return whether the model's files are still there: its experiment may be deleted."""
    try:
        Model.load(f"models:/{version.name}/{version.version}")
    except (MlflowException, OSError):
        return False
    return True


def _create_version(name: str, model_uri: str, tags: Mapping[str, str]) -> str:
    # Hides MLflow's "Created version '1' of model ...": the step prints its own message.
    with registry_errors(), library_output.silence():
        return str(mlflow.register_model(model_uri, name, tags=dict(tags)).version)


def _replace_tags(name: str, version: str, tags: Mapping[str, str]) -> None:
    with registry_errors():
        client = MlflowClient()
        before = client.get_model_version(name, version).tags
        for key in before.keys() - tags.keys():
            if key.startswith(TAG_PREFIX) and key not in KEPT:
                client.delete_model_version_tag(name, version, key)
        for key, value in tags.items():
            if before.get(key) != value:
                client.set_model_version_tag(name, version, key, value)
