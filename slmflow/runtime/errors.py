"""The one error for requests that the model rejects."""

from typing import NoReturn

from mlflow.exceptions import MlflowException


def reject(message: str) -> NoReturn:
    """Raise the MlflowException that MLflow's server returns as HTTP status 400."""
    raise MlflowException.invalid_parameter_value(message)
