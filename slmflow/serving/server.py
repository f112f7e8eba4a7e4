"""Listen, answer, and end: at SIGTERM or Ctrl-C with what is in flight, or with the model."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.serving.model_process import ModelProcess

# How long clients have to take the error, once the model has ended.
_LAST_WORDS_S = 5


def listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address; port 0 is any that is free.

    Raises UserError where that cannot be.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise UserError(
            f"serve.host={host} serve.port={port}: {error.strerror or error}; give another port, "
            "or 0 for any that is free"
        ) from error
    return bound


async def run(app: ASGIApp, bound: socket.socket, model: ModelProcess) -> None:
    """Answer until told to stop. Raises UserError where the model's process ends before."""
    host, port = bound.getsockname()[:2]
    server = _Server(
        uvicorn.Config(app, log_level="warning", lifespan="off", access_log=False),
        f"serving {model.name} on http://{f'[{host}]' if ':' in host else host}:{port}",
    )
    answering = asyncio.create_task(server.serve([bound]))
    either: set[asyncio.Future[Any]] = {answering, model.ended}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not model.ended.done():
        return await answering
    server.should_exit = True
    await asyncio.wait({answering}, timeout=_LAST_WORDS_S)
    server.force_exit = True
    await answering
    raise UserError(f"the model cannot answer any more: {model.ended.result()}")


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it listens and keeps its signals to itself."""

    def __init__(self, config: uvicorn.Config, listening: str) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        messages.say(self._listening)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again in the end, as if the step had been interrupted.
        asked = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in asked}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
