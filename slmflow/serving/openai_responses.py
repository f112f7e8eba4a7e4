"""Events of the model as OpenAI's responses: JSON, server-sent events, and errors."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import JSONResponse

from slmflow.runtime.completions import ResponseShape
from slmflow.runtime.protocol import Event
from slmflow.serving.errors import RequestError
from slmflow.serving.openai_requests import StreamOptions

_DONE = "data: [DONE]\n\n"

_ERROR_TYPES = {
    401: "authentication_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


@dataclass(frozen=True)
class ResponseFormat:
    """Format the events of one request with so many `choices`."""

    shape: ResponseShape
    options: StreamOptions = field(default_factory=StreamOptions)
    choices: int = 1

    def whole(self, finished: Event) -> JSONResponse:
        """Return a response without a stream."""
        choices = finished.get("choices", [finished])
        return JSONResponse(self.shape.completion(choices, finished["usage"]))

    def first(self) -> str:
        """Return the chunks that open the choices of a chat's stream; that of a text has none."""
        indices = range(self.choices if self.shape.is_chat else 0)
        return "".join(self._chunk("", role="assistant", index=index) for index in indices)

    def piece(self, event: Event) -> str:
        """Return the chunk with a piece of the text, or of the reasoning before it.

        One of several choices ends with a piece, too.
        """
        usage, index = event.get("usage"), event.get("index", 0)
        if (reason := event.get("finish_reason")) is not None:
            return self._chunk(finish_reason=reason, usage=usage, index=index)
        if (call := event.get("tool_call")) is not None:
            return self._chunk(tool_call=call, usage=usage, index=index)
        logprobs = event.get("logprobs", ())
        if (reasoning := event.get("reasoning")) is not None:
            return self._chunk(reasoning=reasoning, usage=usage, logprobs=logprobs, index=index)
        return self._chunk(event["text"], usage=usage, logprobs=logprobs, index=index)

    def last(self, finished: Event) -> str:
        """Return the chunks that end a stream."""
        end = ""
        if "choices" not in finished:
            end = self._chunk(finish_reason=finished["finish_reason"], usage=finished["usage"])
        if self.options.include_usage:
            end += _server_sent_event(self.shape.usage_chunk(finished["usage"]))
        return end + _DONE

    def error(self, error: RequestError) -> str:
        """Return the event for an error after the status has been sent."""
        return _server_sent_event({"error": _error_body(error)})

    def _chunk(
        self, text: str | None = None, usage: Mapping[str, int] | None = None, **fields: Any
    ) -> str:
        chunk = self.shape.chunk(text, **fields)
        if self.options.continuous_usage_stats:
            chunk["usage"] = usage
        elif self.options.include_usage:
            chunk["usage"] = None
        return _server_sent_event(chunk)


def error_response(error: RequestError) -> JSONResponse:
    """Return an error as OpenAI's clients expect it."""
    wait = error.retry_after_s
    headers = {} if wait is None else {"Retry-After": str(wait)}
    return JSONResponse({"error": _error_body(error)}, error.status, headers)


def _error_body(error: RequestError) -> dict[str, Any]:
    kind = _ERROR_TYPES.get(error.status, "invalid_request_error")
    return {"message": str(error), "type": kind, "param": error.param, "code": error.code}


def _server_sent_event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"
