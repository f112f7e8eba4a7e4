"""The model's events in the shape of OpenAI's answers, streamed and whole, and of its errors."""

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import JSONResponse

from slmflow.serving.errors import Refusal
from slmflow.serving.model_process import Event

DONE = "data: [DONE]\n\n"

_TYPES = {
    401: "authentication_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


@dataclass(frozen=True)
class Shape:
    """One answer's shape: its id and time, and whether it is a chat's or a text's."""

    model: str
    chat: bool
    include_usage: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answer: Event) -> dict[str, Any]:
        """Return an answer in one piece."""
        text = answer["text"]
        said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        return {
            **self._head(""),
            "choices": [_choice(said, answer["finish_reason"])],
            **_usage(answer),
        }

    def first(self) -> str:
        """Return the chunk that opens a chat's stream; a text's has none."""
        return self._chunk({"delta": {"role": "assistant", "content": ""}}) if self.chat else ""

    def piece(self, text: str) -> str:
        """Return the chunk of a piece of the text."""
        return self._chunk({"delta": {"content": text}} if self.chat else {"text": text})

    def last(self, answer: Event) -> str:
        """Return what ends a stream."""
        end = self._chunk({"delta": {}} if self.chat else {"text": ""}, answer["finish_reason"])
        if self.include_usage:
            end += _sse({**self._head(".chunk"), "choices": [], **_usage(answer)})
        return end + DONE

    def _chunk(self, said: dict[str, Any], reason: str | None = None) -> str:
        usage = {"usage": None} if self.include_usage else {}
        return _sse({**self._head(".chunk"), "choices": [_choice(said, reason)], **usage})

    def _head(self, chunk: str) -> dict[str, Any]:
        prefix, kind = (
            ("chatcmpl", f"chat.completion{chunk}") if self.chat else ("cmpl", "text_completion")
        )
        return {
            "id": f"{prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
        }


def error(refusal: Refusal) -> JSONResponse:
    """Return an error as OpenAI's clients expect it."""
    wait = refusal.retry_after_s
    headers = {} if wait is None else {"Retry-After": str(wait)}
    return JSONResponse({"error": _fault(refusal)}, refusal.status, headers)


def streamed_error(refusal: Refusal) -> str:
    """Return an error that comes when the status has been sent already."""
    return _sse({"error": _fault(refusal)})


def _fault(refusal: Refusal) -> dict[str, Any]:
    kind = _TYPES.get(refusal.status, "invalid_request_error")
    return {"message": str(refusal), "type": kind, "param": refusal.param, "code": refusal.code}


def _choice(said: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {"index": 0, **said, "logprobs": None, "finish_reason": reason}


def _usage(answer: Event) -> dict[str, Any]:
    prompt, said = answer["prompt_tokens"], answer["completion_tokens"]
    counts = {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}
    return {"usage": counts}


def _sse(message: dict[str, Any]) -> str:
    return f"data: {json.dumps(message)}\n\n"
