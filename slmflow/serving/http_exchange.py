"""What a handler waits for: a request's body, and the model's events until the client leaves."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from slmflow.runtime.protocol import Event
from slmflow.serving.errors import RequestError
from slmflow.serving.pending import Pending

# nginx's status for a request whose client has disconnected. Nobody receives it.
CLIENT_CLOSED_REQUEST = 499


async def read_body(request: Request, most_kb: int) -> bytes:
    """Return the body. Raises RequestError as soon as it is longer than `most_kb` kB."""
    limit = most_kb * 1000
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise RequestError(f"the body is larger than {limit:,} bytes: send less", 413)
    return bytes(body)


async def final_event(request: Request, pending: Pending) -> Event | None:
    """Return the event that ends a request, or None if the client disconnects first.

    Raises RequestError if the request is rejected or fails.
    """
    try:
        event = await unless_disconnected(request, pending.final_event())
    finally:
        pending.cancel()
    if event is not None:
        raise_if_error(event)
    return event


async def unless_disconnected(
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


def raise_if_error(event: Event) -> None:
    """Raise RequestError for an event that ends its request without an answer."""
    if event["type"] in ("rejected", "failed"):
        raise request_error(event)


def request_error(event: Event) -> RequestError:
    """Return the error of such an event."""
    status = 400 if event["type"] == "rejected" else 500
    # A model of an older slmflow names neither field nor code.
    return RequestError(event["message"], status, event.get("param"), event.get("code"))


class CancellingStream(StreamingResponse):
    """A stream of server-sent events that cancels its request when it ends for any reason."""

    def __init__(self, chunks: AsyncIterator[str], pending: Pending) -> None:
        """Stream the chunks of a request in progress."""
        super().__init__(chunks, media_type="text/event-stream")
        self._pending = pending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._pending.cancel()


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
