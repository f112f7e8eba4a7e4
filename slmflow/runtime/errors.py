"""The error for requests that the model rejects."""

from typing import NoReturn

from mlflow.exceptions import MlflowException


def reject(message: str, *, param: str | None = None, code: str | None = None) -> NoReturn:
    """Raise the MlflowException that MLflow's server returns as HTTP status 400.

    param: the invalid field of the request; code: OpenAI's code of the error.
    """
    fields = {"param": param, "code": code}
    given = {name: value for name, value in fields.items() if value is not None}
    raise MlflowException.invalid_parameter_value(message, **given)


def is_rejection(error: BaseException) -> bool:
    """Return whether an error says that the request, not the model, is at fault."""
    return isinstance(error, MlflowException) and error.get_http_status_code() == 400


def rejection_fields(error: MlflowException) -> dict[str, str | None]:
    """Return the message of a rejection, and its `param` and `code`."""
    details = error.json_kwargs
    return {"message": error.message, "param": details.get("param"), "code": details.get("code")}
