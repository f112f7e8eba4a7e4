"""Why a request has no answer, in the terms of HTTP and of OpenAI's errors."""


class Refusal(Exception):
    """A request that is not answered.

    status: of HTTP; param: the field of the request that is at fault; code: OpenAI's word for the
    fault; retry_after_s: when to ask again.
    """

    def __init__(
        self,
        message: str,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        """The message is for who asked: what is wrong, which value, what to do."""
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.retry_after_s = retry_after_s


def check_model(asked: str | None, served: str) -> None:
    """Raise Refusal for a model that is not the one served."""
    if asked not in (None, served):
        raise Refusal(
            f"model={asked!r} is not served here: give {served!r}, or leave it out",
            status=404,
            param="model",
            code="model_not_found",
        )
