"""Shape completions as OpenAI's API does; MLflow's `llm/v1/chat` has the same shape.

The one place that knows these shapes: the model uses it for `predict`, and the server for its
OpenAI endpoints.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .logprob_shapes import shape_chat, shape_text

Completed = Mapping[str, Any]
"""The fields of a finished completion, as in the event `finished` of `protocol`."""


@dataclass(frozen=True)
class ResponseShape:
    """The shape of one response: its id and time, and whether it is a chat or a text completion."""

    model: str
    is_chat: bool = True
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(
        self, completions: Sequence[Completed], usage: Mapping[str, object]
    ) -> dict[str, Any]:
        """Return a whole response, with a choice for each completion."""
        choices = [self._whole_choice(index, each) for index, each in enumerate(completions)]
        return {**self._head("chat.completion"), "choices": choices, "usage": usage}

    def chunk(
        self,
        text: str | None = None,
        finish_reason: str | None = None,
        role: str | None = None,
        reasoning: str | None = None,
        logprobs: Sequence[Mapping[str, Any]] = (),
        index: int = 0,
        tool_call: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return a chunk of a stream. A chat's chunk leaves out what is None.

        logprobs: of the tokens of the text or of the reasoning. index: of the choice. tool_call: a
        piece of a call, as in the event `piece` of `protocol`.
        """
        delta: dict[str, Any] = {"role": role, "content": text, "reasoning_content": reasoning}
        if tool_call:
            delta["tool_calls"] = [_call_delta(tool_call)]
        content: dict[str, Any] = (
            {"delta": {name: value for name, value in delta.items() if value is not None}}
            if self.is_chat
            else {"text": text or ""}
        )
        shaped = None
        if logprobs and reasoning is None:
            shaped = self._shape_logprobs(logprobs)
        elif logprobs:
            shaped = self._shape_logprobs((), logprobs)
        choices = [_choice(index, content, finish_reason, shaped)]
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

    def _whole_choice(self, index: int, completed: Completed) -> dict[str, Any]:
        calls = [shape_call(call) for call in completed.get("tool_calls", ())]
        text = completed["text"] or (None if calls else "")
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if calls:
            message["tool_calls"] = calls
        if reasoning := completed.get("reasoning"):  # a model logged earlier has none
            message["reasoning_content"] = reasoning
        content = {"message": message} if self.is_chat else {"text": completed["text"]}
        logprobs = completed.get("logprobs") or ()
        in_reasoning = completed.get("reasoning_logprobs") or ()
        has_any = logprobs or in_reasoning
        shaped = self._shape_logprobs(logprobs, in_reasoning) if has_any else None
        return _choice(index, content, completed["finish_reason"], shaped)

    def _shape_logprobs(
        self, logprobs: Sequence[Mapping[str, Any]], reasoning: Sequence[Mapping[str, Any]] = ()
    ) -> dict[str, Any]:
        return shape_chat(logprobs, reasoning) if self.is_chat else shape_text(logprobs)


def shape_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a whole call as OpenAI's message has it."""
    function = {"name": call["name"], "arguments": call["arguments"]}
    return {"id": call["id"], "type": "function", "function": function}


def _call_delta(piece: Mapping[str, Any]) -> dict[str, Any]:
    """Return OpenAI's delta of a piece: only the first one of a call names it."""
    if piece["id"] is None:
        return {"index": piece["index"], "function": {"arguments": piece["arguments"]}}
    return {"index": piece["index"], **shape_call(piece)}


def total_usage(usages: Sequence[Mapping[str, int]], n: int = 1) -> dict[str, int]:
    """Return the token counts of a response with `n` completions for each prompt.

    A prompt counts once.
    """
    prompt = sum(usage["prompt_tokens"] for usage in usages[::n])
    completion = sum(usage["completion_tokens"] for usage in usages)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _choice(
    index: int,
    content: dict[str, Any],
    finish_reason: str | None,
    logprobs: dict[str, Any] | None,
) -> dict[str, Any]:
    return {"index": index, **content, "logprobs": logprobs, "finish_reason": finish_reason}
