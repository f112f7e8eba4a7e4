"""Run the server until SIGTERM, Ctrl-C or the end of the model's process."""

import asyncio
import contextlib
import ipaddress
import signal
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from slmflow.config.schema.serving import Serve
from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.serving.model_process import ModelProcess

# How long clients may take to receive the error after the model's process has ended.
_SHUTDOWN_S = 5


def listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address. Port 0 is any free port.

    Raises UserError if the address is unavailable.
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
            "or 0 for any free port"
        ) from error
    return bound


def require_key(bound: socket.socket, settings: Serve, key: str | None) -> None:
    """Raise UserError if others can reach the address, and no key keeps them out."""
    host = bound.getsockname()[0]
    address = ipaddress.ip_address(host.partition("%")[0])
    if key or settings.insecure or (getattr(address, "ipv4_mapped", None) or address).is_loopback:
        return
    raise UserError(
        f"serve.host={settings.host}: everybody who can reach {host} could use the server without "
        "a key: set SLMFLOW_API_KEY to a secret, which clients then send as their API key, or set "
        "serve.insecure=true if a firewall or a proxy keeps others out"
    )


async def run(app: ASGIApp, bound: socket.socket, model: ModelProcess) -> None:
    """Serve until a signal, and finish the requests in progress.

    Raises UserError if the model's process ends first.
    """
    host, port = bound.getsockname()[:2]
    server = _Server(
        uvicorn.Config(app, log_level="warning", lifespan="off", access_log=False),
        f"serving {model.name} on http://{f'[{host}]' if ':' in host else host}:{port}",
    )
    serving = asyncio.create_task(server.serve([bound]))
    either: set[asyncio.Future[Any]] = {serving, model.ended}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not model.ended.done():
        return await serving
    server.should_exit = True
    await asyncio.wait({serving}, timeout=_SHUTDOWN_S)
    server.force_exit = True
    await serving
    raise UserError(f"the model is unavailable: {model.ended.result()}")


class _Server(uvicorn.Server):
    """uvicorn's server, with our own message and signal handling."""

    def __init__(self, config: uvicorn.Config, startup_message: str) -> None:
        super().__init__(config)
        self._startup_message = startup_message

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        messages.info(self._startup_message)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own version raises the signal again at the end, as if the step were interrupted.
        signals = (signal.SIGINT, signal.SIGTERM)
        previous = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
