"""A request's way: taken in, passed to the model, answered whole or as a stream."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from slmflow.config.schema.serving import Serve
from slmflow.runtime.generation.answer import Answer, together
from slmflow.runtime.tracing import Tracer
from slmflow.serving import openai_requests
from slmflow.serving.errors import Refusal, check_model
from slmflow.serving.model_process import Event, ModelProcess, Ticket
from slmflow.serving.openai_requests import Asked
from slmflow.serving.openai_responses import Shape, streamed_error
from slmflow.serving.prometheus import Metrics

# What nginx calls a request whose client went away; nobody reads it.
CLIENT_GONE = 499


class Answering:
    """Answers requests with a model."""

    def __init__(
        self, model: ModelProcess, settings: Serve, metrics: Metrics, tracer: Tracer
    ) -> None:
        """Keep to the settings, and note what is answered."""
        self._model, self._settings = model, settings
        self._metrics, self._tracer = metrics, tracer

    async def chat(self, request: Request) -> Response:
        """Answer a request to /v1/chat/completions."""
        return await self._openai(request, openai_requests.chat)

    async def completion(self, request: Request) -> Response:
        """Answer a request to /v1/completions."""
        return await self._openai(request, openai_requests.completion)

    async def invocations(self, request: Request) -> Response:
        """Answer a request to MLflow's /invocations, as its own server would."""
        body = await self._body(request)
        self._refuse_if_full()
        kind = request.headers.get("content-type", "application/json")
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise Refusal(f"the body is not UTF-8: {error}") from error
        event = await _last(request, self._model.ask("invocations", body=text, content_type=kind))
        if event is None:
            return Response(status_code=CLIENT_GONE)
        if answers := [Answer(**answer) for answer in event["answers"]]:
            whole = together(answers, text=event["body"])
            self._tracer.answered(request.url.path, {"body": text}, whole)
        return Response(event["body"], event["status"], media_type=event["media_type"])

    async def _openai(self, request: Request, parse: Callable[[bytes], Asked]) -> Response:
        asked = parse(await self._body(request))
        check_model(asked.model, self._model.name)
        self._refuse_if_full()
        shape = Shape(self._model.name, asked.text is None, asked.include_usage)
        answer = self._streamed if asked.stream else self._whole
        return await answer(request, asked, shape, self._ticket(asked))

    async def _whole(
        self, request: Request, asked: Asked, shape: Shape, ticket: Ticket
    ) -> Response:
        answer = await _last(request, ticket)
        if answer is None:
            return Response(status_code=CLIENT_GONE)
        self._note(request.url.path, asked, answer)
        return JSONResponse(shape.whole(answer))

    async def _streamed(
        self, request: Request, asked: Asked, shape: Shape, ticket: Ticket
    ) -> Response:
        try:
            first = await _unless_gone(request, ticket.next())
            if first is None:
                ticket.cancel()
                return Response(status_code=CLIENT_GONE)
            _refuse(first)  # now, so that it has its status
        except BaseException:
            ticket.cancel()
            raise
        return _Stream(self._chunks(request.url.path, asked, shape, first, ticket), ticket)

    async def _chunks(
        self, path: str, asked: Asked, shape: Shape, event: Event, ticket: Ticket
    ) -> AsyncIterator[str]:
        """Yield server-sent events, from the model's first event on."""
        if opening := shape.first():
            yield opening
        while True:
            if event["event"] == "piece":
                yield shape.piece(event["text"])
            elif event["event"] == "answer":
                self._note(path, asked, event)
                yield shape.last(event)
                return
            elif event["event"] != "taken":
                yield streamed_error(_refusal(event))
                return
            event = await ticket.next()

    def _note(self, path: str, asked: Asked, event: Event) -> None:
        fields = {name: value for name, value in event.items() if name != "event"}
        self._tracer.answered(path, asked.given, Answer(**fields))

    def _ticket(self, asked: Asked) -> Ticket:
        if asked.text is None:
            return self._model.ask("chat", request=asked.fields)
        return self._model.ask("completion", text=asked.text, request=asked.fields)

    async def _body(self, request: Request) -> bytes:
        """Return the body. Raises Refusal as soon as it is longer than it may be."""
        most = self._settings.most_body_kb * 1000
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > most:
                raise Refusal(f"the body is larger than {most:,} bytes: send less", status=413)
        return bytes(body)

    def _refuse_if_full(self) -> None:
        waiting = self._model.waiting
        if waiting >= self._settings.most_waiting:
            raise Refusal(
                f"{waiting} requests wait already: ask again later",
                status=429,
                code="rate_limit_exceeded",
                retry_after_s=max(1, math.ceil(self._metrics.mean_seconds)),
            )


class _Stream(StreamingResponse):
    """Server-sent events of a ticket, which is given up however the response ends."""

    def __init__(self, chunks: AsyncIterator[str], ticket: Ticket) -> None:
        """Send chunks."""
        super().__init__(chunks, media_type="text/event-stream")
        self._ticket = ticket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until the last, or until the client goes away."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ticket.cancel()


async def _last(request: Request, ticket: Ticket) -> Event | None:
    """Return the event that ends a request, None where the client goes away before.

    Raises Refusal where there is no answer.
    """
    try:
        event = await _unless_gone(request, ticket.last())
    finally:
        ticket.cancel()
    if event is not None:
        _refuse(event)
    return event


async def _unless_gone(request: Request, awaited: Coroutine[Any, Any, Event]) -> Event | None:
    """Return an awaited event, None where the client goes away before."""
    gone = asyncio.create_task(_gone(request))
    event = asyncio.create_task(awaited)
    try:
        await asyncio.wait({gone, event}, return_when=asyncio.FIRST_COMPLETED)
        return event.result() if event.done() else None
    finally:
        gone.cancel()
        event.cancel()
        await asyncio.wait({gone, event})


async def _gone(request: Request) -> None:
    """Return when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refuse(event: Event) -> None:
    if event["event"] in ("refused", "failed"):
        raise _refusal(event)


def _refusal(event: Event) -> Refusal:
    return Refusal(event["message"], status=400 if event["event"] == "refused" else 500)
