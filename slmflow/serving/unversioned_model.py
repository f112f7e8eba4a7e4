"""Serve a GenAI model that was logged before `slmflow.runtime.protocol` had a version.

Such a model exposes its chat model as `chat`, with the methods `chat`, `completion` and `submit`
and the hook `on_asked`. Its requests deliver strings, exceptions, and instances of its own classes
`Taken` and `Answer`, which are recognized by their names.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from slmflow.runtime.chat_model import ChatModel
from slmflow.runtime.generation.active_request import ActiveRequest
from slmflow.runtime.generation.events import (
    Completion,
    Deliver,
    Event,
    PrefillStarted,
    TextPiece,
    Usage,
)
from slmflow.runtime.request_group import join_current_group


def adapt(chat: Any, name: str | None) -> ChatModel:
    """Return the chat model of an older runtime with the interface that a session uses.

    `name` overrides the name that it was logged with.
    """
    chat.name = name or chat.name
    chat.on_asked = lambda jobs: join_current_group([_request(job) for job in jobs])
    return cast(ChatModel, _UnversionedModel(chat))


class _UnversionedModel:
    takes_messages = True
    template_variables = None  # unknown
    adapters = ()

    def __init__(self, chat: Any) -> None:
        self.name = chat.name
        self._chat = chat

    def prepare_chat(self, request: Mapping[str, Any], deliver: Deliver) -> ActiveRequest:
        return _request(self._chat.chat(request, deliver=lambda event: deliver(_event(event))))

    def prepare_completion(
        self, prompt: str, options: Mapping[str, Any], deliver: Deliver
    ) -> ActiveRequest:
        return _request(
            self._chat.completion(prompt, options, deliver=lambda event: deliver(_event(event)))
        )

    def submit(self, requests: Sequence[Any]) -> None:
        self._chat.submit([request.job for request in requests])


def _request(job: Any) -> ActiveRequest:
    return cast(ActiveRequest, _UnversionedRequest(job))


@dataclass
class _UnversionedRequest:
    job: Any
    streamed: bool = False  # without effect

    @property
    def completion(self) -> Completion | None:
        answer = getattr(self.job, "answer", None)  # missing in the oldest models
        return _completion(answer) if answer else None

    def cancel(self) -> None:
        self.job.cancel()


def _event(event: Any) -> Event:
    kind = type(event).__name__
    if kind == "Taken":
        return PrefillStarted()
    if kind == "Answer":
        return _completion(event)
    return TextPiece(event) if isinstance(event, str) else event


def _completion(answer: Any) -> Completion:
    prompt, generated = answer.prompt_tokens, answer.completion_tokens
    return Completion(
        text=answer.text,
        finish_reason=answer.finish_reason,
        usage=Usage(
            prompt_tokens=prompt, completion_tokens=generated, total_tokens=prompt + generated
        ),
        queue_s=answer.waited_s,
        first_token_s=answer.first_token_s,
        total_s=answer.seconds,
        ended_ns=getattr(answer, "ended_ns", time.time_ns()),  # missing in the oldest models
    )
