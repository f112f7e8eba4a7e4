"""The messages between a server and the model it has loaded: plain dicts, with a version.

A logged model ships the runtime that it was logged with, so the server that loads it may come from
another version of slmflow. The two share no classes. The server uses three things of the object
that `PyFuncModel.unwrap_python_model()` returns:

- `protocol_version`, an int. A model without it was logged before this protocol existed.
- `open_session(deliver, model_name=None)`, which returns a session. `deliver(event)` is called from
  any thread. `model_name` overrides the name that responses give to the model.
- the session: its `model_name`, and the methods `submit(request)`, `cancel(request_id)` and
  `track(request_id)`. `takes_messages` is false for a model without a chat template, which rejects
  `chat`; older models have no such attribute, and all take messages.

A server speaks every version up to its own `PROTOCOL_VERSION` and rejects a model with a newer one.
A feature that the model's version lacks is rejected by name.

Version 1
=========

Requests have an `id` that the server chooses. `body` holds OpenAI's options (see `options`):

    {"id": 1, "type": "chat", "body": {"messages": [...], "max_tokens": 64, ...}}
    {"id": 2, "type": "completion", "body": {"prompt": "Once upon", "max_tokens": 64, ...}}

Events have the `id` of their request. `started` and `piece` are optional, and exactly one of the
others ends the request; a cancelled request ends with `finished`, too. Each side ignores fields of
an event that it does not know:

    {"id": 1, "type": "started"}                     the model begins to read the prompt
    {"id": 1, "type": "piece", "text": "Par"}        the next piece of the completion
    {"id": 1, "type": "piece", "text": "", "reasoning": "A capital"}    ... or of its reasoning
    {"id": 1, "type": "finished", "text": "Paris", "finish_reason": "stop",
     "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
     "queue_s": 0.01, "first_token_s": 0.05, "total_s": 0.07, "ended_ns": 1764345600000000000,
     "reasoning": ""}
    {"id": 1, "type": "rejected", "message": "..."}  the request is invalid (HTTP 400)
    {"id": 1, "type": "failed", "message": "..."}    the model failed (HTTP 500)

`finish_reason` is "stop", "length" or "cancelled". `queue_s`, `first_token_s` and `total_s` are
seconds from submission to the start of prefill, to the first token and to the end; `ended_ns` is
Unix time in nanoseconds. `reasoning`, which older models do not send, is what a thinking model
wrote before `text`. A server older than this field gets no reasoning, and the same text.

`track(request_id)` returns a context manager that attributes this thread's calls of `predict` to a
request: `cancel(request_id)` cancels them. The manager yields a list, which after the block holds
one `finished` event per completion.

Version 2
=========

A rejection names the field of the body that is at fault and OpenAI's code of the error, or null:

    {"id": 1, "type": "rejected", "message": "...", "param": "messages",
     "code": "context_length_exceeded"}
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

PROTOCOL_VERSION = 2

Request = dict[str, Any]
Event = dict[str, Any]
Deliver = Callable[[Event], None]


class Session(Protocol):
    """A conversation of messages between one server and one loaded model."""

    model_name: str
    takes_messages: bool

    def submit(self, request: Request) -> None:
        """Start a request. Its outcome, a rejection too, arrives as an event."""

    def cancel(self, request_id: int) -> None:
        """End a request early. Do nothing if it has ended."""

    def track(self, request_id: int) -> AbstractContextManager[list[Event]]:
        """Attribute this thread's calls of `predict` within the block to a request."""


def is_final(event: Event) -> bool:
    """Return whether an event ends its request."""
    return event["type"] not in ("started", "piece")
