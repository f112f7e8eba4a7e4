"""The one error of a request that cannot be answered."""

from typing import NoReturn

from mlflow.exceptions import MlflowException


def refuse(message: str) -> NoReturn:
    """Raise the MlflowException that MLflow's server answers with status 400."""
    raise MlflowException.invalid_parameter_value(message)
