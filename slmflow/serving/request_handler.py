"""Handle a request: read it, pass it to the model, and respond whole or as a stream."""

import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from fastapi import Request
from fastapi.responses import Response

from slmflow.config.schema.serving import Serve
from slmflow.runtime.completions import ResponseShape
from slmflow.runtime.protocol import Event
from slmflow.runtime.tracing import FAILED, REJECTED, Tracer
from slmflow.serving import older_models, openai_requests
from slmflow.serving.errors import RequestError, check_model, with_fields
from slmflow.serving.http_exchange import (
    CLIENT_CLOSED_REQUEST,
    CancellingStream,
    final_event,
    raise_if_error,
    read_body,
    request_error,
    unless_disconnected,
)
from slmflow.serving.model_process import ModelProcess
from slmflow.serving.openai_requests import OpenAIRequest
from slmflow.serving.openai_responses import ResponseFormat
from slmflow.serving.pending import Pending, merge_completions
from slmflow.serving.prometheus import Metrics
from slmflow.serving.responses_api import requests as responses_requests
from slmflow.serving.responses_api.format import ResponsesFormat


@dataclass(frozen=True)
class _Exchange:
    """A request in progress, and the format of its response."""

    http: Request
    parsed: OpenAIRequest
    format: ResponseFormat | ResponsesFormat
    pending: Pending


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
        return await self._answer(request, openai_requests.parse_chat, openai_requests.CHAT_FIELDS)

    async def completion(self, request: Request) -> Response:
        """Answer a request to /v1/completions."""
        return await self._answer(
            request, openai_requests.parse_completion, openai_requests.COMPLETION_FIELDS
        )

    async def responses(self, request: Request) -> Response:
        """Answer a request to /v1/responses."""
        parsed = responses_requests.parse(await read_body(request, self._settings.most_body_kb))
        try:
            return await self._start(
                request, parsed.chat, ResponsesFormat(parsed, self._answers_as(parsed.chat))
            )
        except RequestError as error:
            raise responses_requests.with_own_names(error) from error

    async def invocations(self, request: Request) -> Response:
        """Answer a request to /invocations as MLflow's own server would."""
        body = await read_body(request, self._settings.most_body_kb)
        self._check_queue()
        content_type = request.headers.get("content-type", "application/json")
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise RequestError(f"the body is not UTF-8: {error}") from error
        pending = self._model.submit("invocations", body=text, content_type=content_type)
        event = await final_event(request, pending)
        if event is None:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        if event["finished"]:
            completion = {**merge_completions(event["finished"]), "text": event["body"]}
            self._tracer.trace(request.url.path, {"body": text}, completion)
        return Response(event["body"], event["status"], media_type=event["media_type"])

    async def _answer(
        self, request: Request, parse: Callable[[bytes], OpenAIRequest], fields: Sequence[str]
    ) -> Response:
        parsed = parse(await read_body(request, self._settings.most_body_kb))
        shape = ResponseShape(self._answers_as(parsed), parsed.is_chat)
        format_ = ResponseFormat(shape, parsed.stream_options, len(parsed.bodies))
        try:
            return await self._start(request, parsed, format_)
        except RequestError as error:
            raise with_fields(error, fields) from error

    def _answers_as(self, parsed: OpenAIRequest) -> str:
        """Return the name of the model or adapter that answers a request."""
        is_adapter = parsed.model is not None and parsed.model in self._model.adapters
        return str(parsed.model) if is_adapter else self._model.name

    async def _start(
        self, request: Request, parsed: OpenAIRequest, format_: ResponseFormat | ResponsesFormat
    ) -> Response:
        check_model(parsed.model, self._model.name, self._model.adapters)
        if parsed.model in self._model.adapters:
            parsed = replace(parsed, body={"adapter": parsed.model, **parsed.body})
        older_models.check_stream_options(parsed.stream_options, self._model.protocol_version)
        self._check_queue(len(parsed.bodies))
        exchange = _Exchange(request, parsed, format_, self._submit(parsed))
        return await (self._stream(exchange) if parsed.stream else self._respond(exchange))

    def _submit(self, parsed: OpenAIRequest) -> Pending:
        kind = "chat" if parsed.is_chat else "completion"
        if len(parsed.bodies) == 1:
            return self._model.submit(kind, body=parsed.bodies[0], streamed=parsed.stream)
        return self._model.submit_choices(kind, parsed.bodies, parsed.n, streamed=parsed.stream)

    async def _respond(self, exchange: _Exchange) -> Response:
        try:
            event = await final_event(exchange.http, exchange.pending)
        except RequestError as error:
            self._trace_failure(exchange, error)
            raise
        if event is None:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        self._trace(exchange, event)
        return exchange.format.whole(event)

    async def _stream(self, exchange: _Exchange) -> Response:
        pending = exchange.pending
        try:
            first = await unless_disconnected(exchange.http, pending.next_event())
            if first is None:
                pending.cancel()
                return Response(status_code=CLIENT_CLOSED_REQUEST)
            raise_if_error(first)  # before the stream starts, so that the status is right
        except BaseException as error:
            pending.cancel()
            if isinstance(error, RequestError):
                self._trace_failure(exchange, error)
            raise
        return CancellingStream(self._chunks(exchange, first), pending)

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
                error = request_error(event)
                self._trace_failure(exchange, error)
                yield exchange.format.error(error)
                return
            event = await exchange.pending.next_event()

    def _trace(self, exchange: _Exchange, finished: Event) -> None:
        self._tracer.trace(exchange.http.url.path, exchange.parsed.body, finished)

    def _trace_failure(self, exchange: _Exchange, error: RequestError) -> None:
        kind = FAILED if error.status >= 500 else REJECTED
        self._tracer.trace_failure(exchange.http.url.path, exchange.parsed.body, kind)

    def _check_queue(self, count: int = 1) -> None:
        """Raise RequestError if there is no room for so many completions in the queue."""
        most, waiting = self._settings.most_waiting, self._model.waiting
        if count > most:
            raise RequestError(
                f"the request asks for {count} completions, each prompt times n, and the queue "
                f"holds {most} (serve.most_waiting): ask for less"
            )
        if waiting + count > most:
            raise RequestError(
                f"{waiting} requests are waiting already: retry later",
                status=429,
                code="rate_limit_exceeded",
                retry_after_s=max(1, math.ceil(self._metrics.mean_total_s)),
            )
