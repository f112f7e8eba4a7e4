"""URIs of MLflow models from the user: `models:/...`, `runs:/...` or a folder."""

from mlflow.exceptions import MlflowException
from mlflow.models import Model

from slmflow.config.schema.registry import Registry
from slmflow.errors import BadArguments

REGISTERED = "registered"
"""In place of a URI: the version that `register` registered last."""


def resolve(model_uri: str, registry: Registry) -> str:
    """Return a model URI; for `registered`, that of the version with the configured alias."""
    return f"models:/{registry.name}@{registry.alias}" if model_uri == REGISTERED else model_uri


def load_metadata(key: str, model_uri: str) -> Model:
    """Return MLflow's metadata of a model.

    key: the config key with the URI, for the message. Raises BadArguments if there is no model.
    """
    try:
        return Model.load(model_uri)
    except (MlflowException, OSError) as error:
        raise unreadable_error(key, model_uri, error) from error


def unreadable_error(key: str, model_uri: str, error: Exception) -> BadArguments:
    """Return the error to raise if no model can be read from the URI in a config key."""
    reason = str(error).partition("\n")[0]
    return BadArguments(
        f"{key}={model_uri!r}: no model can be read from there ({reason}); give the URI of a "
        "logged model, such as models:/NAME/VERSION, models:/NAME@ALIAS or models:/m-..., or run "
        "the workflow first, which registers one"
    )
