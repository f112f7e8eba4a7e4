"""Shape completions as OpenAI's API does; MLflow's `llm/v1/chat` has the same shape.

The one place that knows these shapes: the model uses it for `predict`, and the server for its
OpenAI endpoints.
"""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ResponseShape:
    """The shape of one response: its id and time, and whether it is a chat or a text completion."""

    model: str
    is_chat: bool = True
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(
        self, text: str, finish_reason: str, usage: Mapping[str, object], reasoning: str = ""
    ) -> dict[str, Any]:
        """Return a whole response. A chat's message has its reasoning, if there is any."""
        message = {"role": "assistant", "content": text}
        if reasoning:
            message["reasoning_content"] = reasoning
        content = {"message": message} if self.is_chat else {"text": text}
        choices = [_choice(content, finish_reason)]
        return {**self._head("chat.completion"), "choices": choices, "usage": usage}

    def chunk(
        self,
        text: str | None = None,
        finish_reason: str | None = None,
        role: str | None = None,
        reasoning: str | None = None,
    ) -> dict[str, Any]:
        """Return a chunk of a stream. A chat's chunk leaves out what is None."""
        delta = {"role": role, "content": text, "reasoning_content": reasoning}
        content: dict[str, Any] = (
            {"delta": {name: value for name, value in delta.items() if value is not None}}
            if self.is_chat
            else {"text": text or ""}
        )
        choices = [_choice(content, finish_reason)]
        return {**self._head("chat.completion.chunk"), "choices": choices}

    def usage_chunk(self, usage: Mapping[str, object]) -> dict[str, Any]:
        """Return the chunk without choices that ends a stream when usage is requested."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage}

    def _head(self, chat_object: str) -> dict[str, Any]:
        prefix, kind = ("chatcmpl-", chat_object) if self.is_chat else ("cmpl-", "text_completion")
        return {
            "id": f"{prefix}{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
        }


def _choice(content: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason}
