"""Events of the model as OpenAI's responses: JSON, server-sent events, and errors."""

import json
from dataclasses import dataclass
from typing import Any

from fastapi.responses import JSONResponse

from slmflow.runtime.completions import ResponseShape
from slmflow.runtime.protocol import Event
from slmflow.serving.errors import RequestError

_DONE = "data: [DONE]\n\n"

_ERROR_TYPES = {
    401: "authentication_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


@dataclass(frozen=True)
class ResponseFormat:
    """Format the events of one request."""

    shape: ResponseShape
    include_usage: bool = False

    def whole(self, finished: Event) -> JSONResponse:
        """Return a response without a stream."""
        reasoning = finished.get("reasoning", "")  # a model logged earlier sends none
        return JSONResponse(
            self.shape.completion(
                finished["text"], finished["finish_reason"], finished["usage"], reasoning
            )
        )

    def first(self) -> str:
        """Return the chunk that opens a chat's stream; the stream of a text has none."""
        return self._chunk("", role="assistant") if self.shape.is_chat else ""

    def piece(self, event: Event) -> str:
        """Return the chunk with a piece of the text, or of the reasoning before it."""
        if reasoning := event.get("reasoning"):
            return self._chunk(reasoning=reasoning)
        return self._chunk(event["text"])

    def last(self, finished: Event) -> str:
        """Return the chunks that end a stream."""
        end = self._chunk(finish_reason=finished["finish_reason"])
        if self.include_usage:
            end += _server_sent_event(self.shape.usage_chunk(finished["usage"]))
        return end + _DONE

    def _chunk(self, text: str | None = None, **fields: str) -> str:
        usage = {"usage": None} if self.include_usage else {}
        return _server_sent_event({**self.shape.chunk(text, **fields), **usage})


def error_response(error: RequestError) -> JSONResponse:
    """Return an error as OpenAI's clients expect it."""
    wait = error.retry_after_s
    headers = {} if wait is None else {"Retry-After": str(wait)}
    return JSONResponse({"error": _error_body(error)}, error.status, headers)


def streamed_error(error: RequestError) -> str:
    """Return the event for an error after the status has been sent."""
    return _server_sent_event({"error": _error_body(error)})


def _error_body(error: RequestError) -> dict[str, Any]:
    kind = _ERROR_TYPES.get(error.status, "invalid_request_error")
    return {"message": str(error), "type": kind, "param": error.param, "code": error.code}


def _server_sent_event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"
