"""The error for requests that the model rejects."""

from typing import NoReturn

from mlflow.exceptions import MlflowException


def reject(message: str) -> NoReturn:
    """Raise the MlflowException that MLflow's server returns as HTTP status 400."""
    raise MlflowException.invalid_parameter_value(message)


def is_rejection(error: BaseException) -> bool:
    """Return whether an error says that the request, not the model, is at fault."""
    return isinstance(error, MlflowException) and error.get_http_status_code() == 400
