"""Addresses of MLflow models that a user gives: `models:/...`, `runs:/...` or a folder."""

from mlflow.exceptions import MlflowException
from mlflow.models import Model

from slmflow.config.schema.registry import Registry
from slmflow.errors import BadArguments

REGISTERED = "registered"
"""In place of an address: what `register` registered last."""


def resolve(address: str, registry: Registry) -> str:
    """Return an address, in place of `registered` that of the version with the alias."""
    return f"models:/{registry.name}@{registry.alias}" if address == REGISTERED else address


def load_metadata(key: str, address: str) -> Model:
    """Return what MLflow notes of the model at an address.

    key: the option that holds it, for the message. Raises BadArguments where there is no model.
    """
    try:
        return Model.load(address)
    except (MlflowException, OSError) as error:
        raise unreadable_error(key, address, error) from error


def unreadable_error(key: str, address: str, error: Exception) -> BadArguments:
    """Return what to raise where no model can be read at the address that an option holds."""
    reason = str(error).partition("\n")[0]
    return BadArguments(
        f"{key}={address!r}: no model can be read there ({reason}); give the address of a logged "
        "one, such as models:/NAME/VERSION, models:/NAME@ALIAS or models:/m-..., or run the "
        "workflow first, which registers one"
    )
