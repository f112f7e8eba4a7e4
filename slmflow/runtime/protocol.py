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

`template_variables` of a session holds the names of the variables that its chat template uses.

`adapters` of a session holds the names of its adapters; a model of an older slmflow has none, and
no such attribute. The body of a request may have `adapter`, one of these names; without it, or with
null, the base model answers.

The body of a chat may have `max_completion_tokens` for `max_tokens`, and `reasoning_effort`, which
sets a variable of the chat template.

A `piece` has the token counts so far:

    {"id": 1, "type": "piece", "text": "Par",
     "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}}

A rejection names the field of the body that is at fault and OpenAI's code of the error, or null:

    {"id": 1, "type": "rejected", "message": "...", "param": "messages",
     "code": "context_length_exceeded"}

`open_session` takes `cache_mb`, the most that the KV caches of earlier requests may take together
with those that are in use; 0 keeps none of them.

A request has `streamed`, true if somebody reads the pieces as they come: what delays these for long
is avoided then.

`submit_all(requests)` of a session starts several requests together, so that they are decoded in
one batch. If one of them is rejected, all are.

The body of a chat may have `logprobs`, true or false, and `top_logprobs`; that of a completion the
number `logprobs`, and `echo`, with which the completion begins with its prompt and `max_tokens` may
be 0. Its `prompt` is a text or a list of token ids. With log-probabilities, a `piece` has those of
the tokens whose text it completes, and `finished` has all of them:

    {"id": 2, "type": "piece", "text": " a", "logprobs": [{"token": 263, "text": " a",
     "bytes": [32, 97], "logprob": -0.71, "offset": 9, "top": [{"token": 263, "text": " a",
     "bytes": [32, 97], "logprob": -0.71}]}]}
    {"id": 2, "type": "finished", ..., "logprobs": [...], "reasoning_logprobs": [...]}

The body of a chat may have `tools`, `tool_choice` and `parallel_tool_calls`, and its messages may
have `tool_calls` and `tool_call_id`. Calls come in pieces, of which the first of each call has its
id and name, and whole in `finished`, whose `finish_reason` then is "tool_calls":

    {"id": 1, "type": "piece", "text": "", "tool_call": {"index": 0, "id": "call_Qx...",
     "name": "get_weather", "arguments": ""}}
    {"id": 1, "type": "piece", "text": "", "tool_call": {"index": 0, "id": null, "name": null,
     "arguments": "{\"city\": \"Paris\"}"}}
    {"id": 1, "type": "finished", ..., "tool_calls": [{"id": "call_Qx...", "name": "get_weather",
     "arguments": "{\"city\": \"Paris\"}"}]}

`offset` counts characters of `text`. The `logprob` of the first token of a prompt is null.

`finished` has the number of `reasoning_tokens`, which count in `usage`, too.

Two types of request are answered at once, without a completion. `tokenize` takes the fields of a
chat that shape its prompt, or a `prompt`; the booleans are optional, and true but for `texts`:

    {"id": 3, "type": "tokenize", "body": {"messages": [...], "add_generation_prompt": true}}
    {"id": 4, "type": "tokenize", "body": {"prompt": "A b", "add_special_tokens": true,
     "texts": true}}
    {"id": 4, "type": "tokenized", "tokens": [1, 319, 289], "context_length": 4096,
     "texts": ["<s>", "A", "b"]}
    {"id": 5, "type": "detokenize", "body": {"tokens": [1, 319, 289]}}
    {"id": 5, "type": "detokenized", "text": "<s> A b"}
"""

from collections.abc import Callable, Sequence
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
    template_variables: frozenset[str]
    adapters: tuple[str, ...]

    def submit(self, request: Request) -> None:
        """Start a request. Its outcome, a rejection too, arrives as an event."""

    def submit_all(self, requests: Sequence[Request]) -> None:
        """Start several requests together, or none of them if one is rejected."""

    def cancel(self, request_id: int) -> None:
        """End a request early. Do nothing if it has ended."""

    def track(self, request_id: int) -> AbstractContextManager[list[Event]]:
        """Attribute this thread's calls of `predict` within the block to a request."""


def is_final(event: Event) -> bool:
    """Return whether an event ends its request."""
    return event["type"] not in ("started", "piece")
