"""Answers in the shape of OpenAI's chat completions, which MLflow's `llm/v1/chat` has too."""

import time
import uuid
from typing import Any

from .generation.answer import Answer


def completion(model: str, answer: Answer) -> dict[str, Any]:
    """Return a whole answer."""
    message = {"role": "assistant", "content": answer.text}
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
    return {**_head(model, "chat.completion"), "choices": [choice], "usage": usage(answer)}


def usage(answer: Answer) -> dict[str, int]:
    """Return the token counts of an answer."""
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }


class Chunks:
    """The chunks of one streamed answer: they share id and time."""

    def __init__(self, model: str) -> None:
        """Begin an answer."""
        self._head = _head(model, "chat.completion.chunk")

    def piece(self, text: str) -> dict[str, Any]:
        """Return a chunk with a piece of the text."""
        return self._chunk({"role": "assistant", "content": text}, None)

    def end(self, answer: Answer) -> dict[str, Any]:
        """Return the last chunk, which tells how the answer ended."""
        return {**self._chunk({}, answer.finish_reason), "usage": usage(answer)}

    def _chunk(self, delta: dict[str, str], reason: str | None) -> dict[str, Any]:
        return {**self._head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def _head(model: str, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
    }
