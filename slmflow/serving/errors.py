"""Requests that the server rejects, in terms of HTTP and of OpenAI's errors."""

from collections.abc import Sequence

from slmflow.runtime import unknown_names


class RequestError(Exception):
    """A request that the server rejects.

    status: the HTTP status; param: the invalid field of the request; code: OpenAI's code of the
    error; retry_after_s: seconds after which to retry.
    """

    def __init__(
        self,
        message: str,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        """Reject with a message that names the fault, the invalid value and the fix."""
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.retry_after_s = retry_after_s


def with_fields(error: RequestError, fields: Sequence[str]) -> RequestError:
    """Return the error with the fields of an endpoint, if it is that of an unknown field."""
    if error.code != unknown_names.CODE or error.param is None:
        return error
    message = unknown_names.describe(error.param, fields)
    return RequestError(message, error.status, error.param, error.code)


def check_model(requested: str | None, served: str, adapters: Sequence[str] = ()) -> None:
    """Raise RequestError for a name other than that of the served model or one of its adapters."""
    if requested not in (None, served, *adapters):
        names = " or ".join(map(repr, (served, *adapters)))
        raise RequestError(
            f"model={requested!r} is not served here: use {names}, or leave it out",
            status=404,
            param="model",
            code="model_not_found",
        )
