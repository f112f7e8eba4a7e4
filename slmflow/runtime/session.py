"""Serve a chat model by the messages of `protocol`."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from mlflow.exceptions import MlflowException

from . import protocol
from .chat_model import ChatModel
from .errors import is_rejection, rejection_fields
from .generation.active_request import ActiveRequest
from .generation.events import Completion, Deliver, Event, PrefillStarted, ReasoningPiece, TextPiece
from .request_group import RequestGroup
from .tools.calls import ToolCallPiece


class ModelSession:
    """A `protocol.Session` over a chat model."""

    def __init__(self, model: ChatModel, deliver: protocol.Deliver) -> None:
        """Deliver the events of all requests to `deliver`."""
        self.model_name, self.takes_messages = model.name, model.takes_messages
        self.template_variables, self.adapters = model.template_variables, model.adapters
        self._model, self._deliver = model, deliver
        self._groups: dict[int, RequestGroup] = {}

    def submit(self, request: protocol.Request) -> None:
        """Start a request. Its outcome, a rejection too, arrives as an event."""
        if request["type"] in ("tokenize", "detokenize"):
            self._answer(request)
        else:
            self.submit_all([request])

    def submit_all(self, requests: Sequence[protocol.Request]) -> None:
        """Start requests together, or none of them if one is rejected: then all are."""
        delivers = [partial(self._deliver_event, request["id"]) for request in requests]
        try:
            active = [
                self._prepare(request["type"], dict(request["body"]), deliver)
                for request, deliver in zip(requests, delivers, strict=True)
            ]
        except Exception as error:
            for deliver in delivers:
                deliver(error)
            return
        for request, each in zip(requests, active, strict=True):
            each.streamed = bool(request.get("streamed"))
            self._groups[request["id"]] = RequestGroup([each])
        self._model.submit(active)

    def cancel(self, request_id: int) -> None:
        """End a request early. Do nothing if it has ended."""
        if group := self._groups.get(request_id):
            group.cancel()

    def track(self, request_id: int) -> AbstractContextManager[list[protocol.Event]]:
        """Attribute this thread's calls of `predict` within the block to a request.

        `cancel` takes effect immediately, even before the block begins.
        """
        self._groups[request_id] = group = RequestGroup()
        return self._collected(request_id, group)

    @contextmanager
    def _collected(self, request_id: int, group: RequestGroup) -> Iterator[list[protocol.Event]]:
        finished: list[protocol.Event] = []
        try:
            with group.collecting():
                yield finished
        finally:
            del self._groups[request_id]
            finished.extend(_message(request_id, each) for each in group.completions())

    def _answer(self, request: protocol.Request) -> None:
        """Answer a request that needs no completion."""
        try:
            fields = self._encode(request["type"], request["body"])
        except Exception as error:
            self._deliver_event(request["id"], error)
            return
        self._deliver({"id": request["id"], **fields})

    def _encode(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        if kind == "detokenize":
            return {"type": "detokenized", "text": self._model.detokenize(body["tokens"])}
        tokens = self._model.tokenize(body)
        texts = {"texts": self._model.token_texts(tokens)} if body.get("texts") else {}
        context_length = self._model.context_length
        return {"type": "tokenized", "tokens": tokens, "context_length": context_length, **texts}

    def _prepare(self, kind: str, body: dict[str, Any], deliver: Deliver) -> ActiveRequest:
        if kind == "chat":
            return self._model.prepare_chat(body, deliver)
        return self._model.prepare_completion(body.pop("prompt"), body, deliver)

    def _deliver_event(self, request_id: int, event: Event) -> None:
        message = _message(request_id, event)
        if protocol.is_final(message):
            self._groups.pop(request_id, None)
        self._deliver(message)


def _message(request_id: int, event: Event) -> protocol.Event:
    if isinstance(event, PrefillStarted):
        fields: protocol.Event = {"type": "started"}
    elif isinstance(event, ReasoningPiece):
        fields = {"type": "piece", "text": "", "reasoning": event.text, **_details(event)}
    elif isinstance(event, ToolCallPiece):
        fields = {"type": "piece", "text": "", "tool_call": dataclasses.asdict(event)}
    elif isinstance(event, TextPiece):
        fields = {"type": "piece", "text": event.text, **_details(event)}
    elif isinstance(event, Completion):
        fields = {"type": "finished", **dataclasses.asdict(event)}
    elif isinstance(event, MlflowException) and is_rejection(event):
        fields = {"type": "rejected", **rejection_fields(event)}
    else:
        fields = {"type": "failed", "message": f"{type(event).__name__}: {event}"}
    return {"id": request_id, **fields}


def _details(piece: TextPiece | ReasoningPiece) -> dict[str, Any]:
    logprobs = [dataclasses.asdict(each) for each in piece.logprobs]
    return {"usage": piece.usage, **({"logprobs": logprobs} if logprobs else {})}
