"""Serve a GenAI model that was logged before `slmflow.runtime.protocol` had a version.

Such a model exposes its chat model as `chat`, with the methods `chat`, `completion` and `submit`
and the hook `on_asked`. Its requests deliver instances of the classes `Taken`, `Answer` and
Exception, and strings. The classes belong to the model, so they are recognized by their names.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from mlflow.exceptions import MlflowException

from slmflow.runtime.protocol import Deliver, Event, Request, is_final


class UnversionedSession:
    """A `protocol.Session` over the chat model of an older runtime."""

    def __init__(self, chat: Any, deliver: Deliver, model_name: str | None) -> None:
        """Deliver the events of all requests to `deliver`."""
        chat.name = model_name or chat.name
        self.model_name: str = chat.name
        self._chat, self._deliver = chat, deliver
        self._groups: dict[int, _JobGroup] = {}
        self._thread = threading.local()
        chat.on_asked = self._add_to_thread_group

    def submit(self, request: Request) -> None:
        """Start a request. Its outcome, a rejection too, arrives as an event."""
        deliver, body = partial(self._deliver_event, request["id"]), dict(request["body"])
        try:
            if request["type"] == "chat":
                job = self._chat.chat(body, deliver=deliver)
            else:
                job = self._chat.completion(body.pop("prompt"), body, deliver=deliver)
        except Exception as error:
            deliver(error)
            return
        self._groups[request["id"]] = _JobGroup([job])
        self._chat.submit([job])

    def cancel(self, request_id: int) -> None:
        """End a request early. Do nothing if it has ended."""
        if group := self._groups.get(request_id):
            group.cancel()

    def track(self, request_id: int) -> AbstractContextManager[list[Event]]:
        """Attribute this thread's calls of `predict` within the block to a request."""
        self._groups[request_id] = group = _JobGroup([])
        return self._collected(request_id, group)

    @contextmanager
    def _collected(self, request_id: int, group: "_JobGroup") -> Iterator[list[Event]]:
        finished: list[Event] = []
        self._thread.group = group
        try:
            yield finished
        finally:
            del self._groups[request_id]
            finished.extend(_message(request_id, job.answer) for job in group.jobs if job.answer)

    def _add_to_thread_group(self, jobs: Sequence[Any]) -> None:
        self._thread.group.add(jobs)

    def _deliver_event(self, request_id: int, event: Any) -> None:
        message = _message(request_id, event)
        if is_final(message):
            self._groups.pop(request_id, None)
        self._deliver(message)


class _JobGroup:
    """Jobs that are cancelled together, those that are added later too."""

    def __init__(self, jobs: list[Any]) -> None:
        self.jobs = jobs
        self._cancelled = False
        self._lock = threading.Lock()

    def add(self, jobs: Sequence[Any]) -> None:
        with self._lock:
            self.jobs.extend(jobs)
            cancelled = self._cancelled
        if cancelled:
            self.cancel()

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            for job in self.jobs:
                job.cancel()


def _message(request_id: int, event: Any) -> Event:
    kind = type(event).__name__
    if kind == "Taken":
        fields: Event = {"type": "started"}
    elif isinstance(event, str):
        fields = {"type": "piece", "text": event}
    elif kind == "Answer":
        prompt, completion = event.prompt_tokens, event.completion_tokens
        fields = {
            "type": "finished",
            "text": event.text,
            "finish_reason": event.finish_reason,
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            },
            "queue_s": event.waited_s,
            "first_token_s": event.first_token_s,
            "total_s": event.seconds,
            "ended_ns": event.ended_ns,
        }
    else:
        fields = error_fields(event)
    return {"id": request_id, **fields}


def error_fields(error: Exception) -> Event:
    """Return the event of an error, without its id."""
    if isinstance(error, MlflowException) and error.get_http_status_code() == 400:
        return {"type": "rejected", "message": error.message}
    return {"type": "failed", "message": f"{type(error).__name__}: {error}"}
