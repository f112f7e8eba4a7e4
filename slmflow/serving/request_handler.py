"""Handle a request: read it, pass it to the model, and respond whole or as a stream."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from slmflow.config.schema.serving import Serve
from slmflow.runtime.completions import ResponseShape
from slmflow.runtime.protocol import Event
from slmflow.runtime.tracing import Tracer
from slmflow.serving import openai_requests
from slmflow.serving.errors import RequestError, check_model
from slmflow.serving.model_process import ModelProcess, PendingRequest
from slmflow.serving.openai_requests import OpenAIRequest
from slmflow.serving.openai_responses import ResponseFormat, streamed_error
from slmflow.serving.prometheus import Metrics

# nginx's status for a request whose client has disconnected. Nobody receives it.
CLIENT_CLOSED_REQUEST = 499


@dataclass(frozen=True)
class _Exchange:
    """A request in progress, and the format of its response."""

    http: Request
    parsed: OpenAIRequest
    format: ResponseFormat
    pending: PendingRequest


class RequestHandler:
    """Answer requests with a model."""

    def __init__(
        self, model: ModelProcess, settings: Serve, metrics: Metrics, tracer: Tracer
    ) -> None:
        """Apply the limits of `settings`, and trace completions."""
        self._model, self._settings = model, settings
        self._metrics, self._tracer = metrics, tracer

    async def chat(self, request: Request) -> Response:
        """Answer a request to /v1/chat/completions."""
        return await self._answer(request, openai_requests.parse_chat)

    async def completion(self, request: Request) -> Response:
        """Answer a request to /v1/completions."""
        return await self._answer(request, openai_requests.parse_completion)

    async def invocations(self, request: Request) -> Response:
        """Answer a request to /invocations as MLflow's own server would."""
        body = await self._read_body(request)
        self._check_queue()
        content_type = request.headers.get("content-type", "application/json")
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise RequestError(f"the body is not UTF-8: {error}") from error
        pending = self._model.submit("invocations", body=text, content_type=content_type)
        event = await _final_event(request, pending)
        if event is None:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        if event["finished"]:
            completion = _merge_completions(event["finished"], text=event["body"])
            self._tracer.trace(request.url.path, {"body": text}, completion)
        return Response(event["body"], event["status"], media_type=event["media_type"])

    async def _answer(self, request: Request, parse: Callable[[bytes], OpenAIRequest]) -> Response:
        parsed = parse(await self._read_body(request))
        check_model(parsed.model, self._model.name)
        self._check_queue()
        shape = ResponseShape(self._model.name, parsed.is_chat)
        exchange = _Exchange(
            request,
            parsed,
            ResponseFormat(shape, parsed.include_usage),
            self._model.submit("chat" if parsed.is_chat else "completion", body=parsed.body),
        )
        return await (self._stream(exchange) if parsed.stream else self._respond(exchange))

    async def _respond(self, exchange: _Exchange) -> Response:
        event = await _final_event(exchange.http, exchange.pending)
        if event is None:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        self._trace(exchange, event)
        return exchange.format.whole(event)

    async def _stream(self, exchange: _Exchange) -> Response:
        pending = exchange.pending
        try:
            first = await _unless_disconnected(exchange.http, pending.next_event())
            if first is None:
                pending.cancel()
                return Response(status_code=CLIENT_CLOSED_REQUEST)
            _raise_if_error(first)  # before the stream starts, so that the status is right
        except BaseException:
            pending.cancel()
            raise
        return _CancellingStream(self._chunks(exchange, first), pending)

    async def _chunks(self, exchange: _Exchange, event: Event) -> AsyncIterator[str]:
        """Yield server-sent events, starting with the model's first event."""
        if opening := exchange.format.first():
            yield opening
        while True:
            if event["type"] == "piece":
                yield exchange.format.piece(event)
            elif event["type"] == "finished":
                self._trace(exchange, event)
                yield exchange.format.last(event)
                return
            elif event["type"] != "started":
                yield streamed_error(_request_error(event))
                return
            event = await exchange.pending.next_event()

    def _trace(self, exchange: _Exchange, finished: Event) -> None:
        self._tracer.trace(exchange.http.url.path, exchange.parsed.body, finished)

    async def _read_body(self, request: Request) -> bytes:
        """Return the body. Raises RequestError as soon as it is too long."""
        limit = self._settings.most_body_kb * 1000
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > limit:
                raise RequestError(f"the body is larger than {limit:,} bytes: send less", 413)
        return bytes(body)

    def _check_queue(self) -> None:
        waiting = self._model.waiting
        if waiting >= self._settings.most_waiting:
            raise RequestError(
                f"{waiting} requests are waiting already: retry later",
                status=429,
                code="rate_limit_exceeded",
                retry_after_s=max(1, math.ceil(self._metrics.mean_total_s)),
            )


class _CancellingStream(StreamingResponse):
    """A stream of server-sent events that cancels its request when it ends for any reason."""

    def __init__(self, chunks: AsyncIterator[str], pending: PendingRequest) -> None:
        super().__init__(chunks, media_type="text/event-stream")
        self._pending = pending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._pending.cancel()


async def _final_event(request: Request, pending: PendingRequest) -> Event | None:
    """Return the event that ends a request, or None if the client disconnects first.

    Raises RequestError if the request is rejected or fails.
    """
    try:
        event = await _unless_disconnected(request, pending.final_event())
    finally:
        pending.cancel()
    if event is not None:
        _raise_if_error(event)
    return event


async def _unless_disconnected(
    request: Request, awaited: Coroutine[Any, Any, Event]
) -> Event | None:
    """Return an awaited event, or None if the client disconnects first."""
    disconnected = asyncio.create_task(_wait_for_disconnect(request))
    event = asyncio.create_task(awaited)
    try:
        await asyncio.wait({disconnected, event}, return_when=asyncio.FIRST_COMPLETED)
        return event.result() if event.done() else None
    finally:
        disconnected.cancel()
        event.cancel()
        await asyncio.wait({disconnected, event})


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _raise_if_error(event: Event) -> None:
    if event["type"] in ("rejected", "failed"):
        raise _request_error(event)


def _request_error(event: Event) -> RequestError:
    if event["type"] == "failed":
        return RequestError(event["message"], status=500)
    # A model of version 1 of the protocol names neither.
    return RequestError(event["message"], param=event.get("param"), code=event.get("code"))


def _merge_completions(finished: Sequence[Event], text: str) -> Event:
    """Return the completions of one request as one: total usage, earliest start, latest end."""
    return {
        "text": text,
        "finish_reason": ", ".join(sorted({event["finish_reason"] for event in finished})),
        "usage": {
            name: sum(event["usage"][name] for event in finished) for name in finished[0]["usage"]
        },
        "queue_s": min(event["queue_s"] for event in finished),
        "first_token_s": min(event["first_token_s"] for event in finished),
        "total_s": max(event["total_s"] for event in finished),
        "ended_ns": max(event["ended_ns"] for event in finished),
    }
