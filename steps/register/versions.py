"""Versions of registered models."""

import mlflow
from mlflow import MlflowClient

from steps.common.console import quiet

# The registry keeps at most this many characters of a version's description.
_DESCRIPTION_LENGTH = 5000


def add_version(name: str, alias: str, model_uri: str, description: str) -> str:
    """Register a logged model as the next version of `name`, point `alias` to it, return it.

    description: Markdown, shown on the version's page.
    """
    # MLflow prints "Created version '1' of model ...": the step says so in its own words.
    with quiet():
        registered = mlflow.register_model(model_uri, name)
    client = MlflowClient()
    client.update_model_version(name, registered.version, description[:_DESCRIPTION_LENGTH])
    client.set_registered_model_alias(name, alias, registered.version)
    return str(registered.version)
