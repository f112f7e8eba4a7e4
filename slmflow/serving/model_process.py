"""The model's process, separate so that the server responds while the model computes.

ONNX Runtime GenAI holds Python's global lock all the time, for seconds during a long prefill. The
process is `python -m slmflow.serving.worker`; both sides send one JSON object per line.
"""

import asyncio
import itertools
import json
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from functools import partial
from typing import IO, Any

import mlflow

from slmflow.errors import UserError
from slmflow.runtime.protocol import Event, is_final
from slmflow.system import child_processes

# A line may hold the responses to a frame of many rows.
_MAX_LINE_BYTES = 256 * 2**20

# For glibc: memory in blocks of a MiB or more returns to the system when it is freed. Otherwise the
# memory of a large batch may stay below later allocations.
_RETURN_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}

_PROCESS_ENDED: Event = {"type": "failed", "message": "the model's process ended"}


class PendingRequest:
    """A request in the model's process, and its events (see `slmflow.runtime.protocol`)."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        """Follow a request that `cancel` ends."""
        self.started = False
        self.cancelled = False
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._cancel = cancel

    def put(self, event: Event) -> None:
        """Add an event of the request."""
        self.started = True
        self._events.put_nowait(event)

    async def next_event(self) -> Event:
        """Return the next event."""
        return await self._events.get()

    async def final_event(self) -> Event:
        """Return the event that ends the request."""
        while not is_final(event := await self.next_event()):
            pass
        return event

    def cancel(self) -> None:
        """End the request early. Do nothing if it has ended."""
        if not self.cancelled:
            self.cancelled = True
            self._cancel()


class ModelProcess:
    """The process and its pending requests."""

    name: str
    takes_messages: bool

    def __init__(self, process: Process, log: IO[str]) -> None:
        """Communicate with a process that has just started and logs to `log`."""
        self._process, self._log = process, log
        self.started_at = int(time.time())
        self._ids = itertools.count()
        self._pending: dict[int, PendingRequest] = {}
        self._reader: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.on_finished: Callable[[Event], None] = lambda _: None
        self.on_cancel: Callable[[], None] = lambda: None

    @classmethod
    async def start(cls, model_uri: str) -> "ModelProcess":
        """Return the process once it has loaded the model. Raises UserError if it cannot."""
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open as long as the process)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "slmflow.serving.worker", model_uri),
            stdin=PIPE,
            stdout=PIPE,
            stderr=log,
            env=child_processes.environment(
                **_RETURN_MEMORY,
                MLFLOW_TRACKING_URI=mlflow.get_tracking_uri(),
                SLMFLOW_TRACING="off",  # the server writes the traces
            ),
            limit=_MAX_LINE_BYTES,
            start_new_session=True,  # Ctrl-C is for the server, which still needs the model
        )
        model = cls(process, log)
        try:
            await model._load(model_uri)
        except BaseException:
            await model.stop()
            raise
        return model

    @property
    def waiting(self) -> int:
        """How many requests the model has not started."""
        pending = self._pending.values()
        return sum(not (request.started or request.cancelled) for request in pending)

    @property
    def running(self) -> int:
        """How many requests the model has started."""
        return sum(request.started for request in self._pending.values())

    def submit(self, kind: str, **fields: Any) -> PendingRequest:
        """Send a request of type `chat`, `completion` or `invocations` with its fields."""
        request_id = next(self._ids)
        pending = PendingRequest(partial(self._cancel, request_id))
        if self.ended.done():
            pending.put(_PROCESS_ENDED)
        else:
            self._send({"id": request_id, "type": kind, **fields})
            self._pending[request_id] = pending
        return pending

    async def stop(self) -> None:
        """End the process."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        if self._reader is not None:
            await self._reader
        self._log.close()

    async def _load(self, model_uri: str) -> None:
        message = await self._receive()
        if message is None:
            raise UserError(
                f"serve.model_uri={model_uri}: cannot load the model: {await self._why_ended()}"
            )
        if message["type"] == "rejected":
            raise UserError(f"serve.model_uri={model_uri}: {message['message']}")
        self.name, self.takes_messages = message["model_name"], message["takes_messages"]
        self._reader = asyncio.create_task(self._read_events())

    def _cancel(self, request_id: int) -> None:
        """Send the cancellation of a request, which stays pending until its final event."""
        if request_id in self._pending:
            self._send({"id": request_id, "type": "cancel"})
            self.on_cancel()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None  # noqa: S101 (it is a pipe)
        if not self._process.stdin.is_closing():
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _receive(self) -> dict[str, Any] | None:
        assert self._process.stdout is not None  # noqa: S101 (it is a pipe)
        line = await self._process.stdout.readline()
        # A killed process may leave half a line.
        message: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None
        return message

    async def _read_events(self) -> None:
        """Pass events to their requests until the process ends."""
        while (event := await self._receive()) is not None:
            request_id = event["id"]
            self._pending[request_id].put(event)
            if is_final(event):
                del self._pending[request_id]
            if event["type"] == "finished":
                self.on_finished(event)
            elif event["type"] == "response":
                for finished in event["finished"]:
                    self.on_finished(finished)
        self.ended.set_result(await self._why_ended())
        for pending in self._pending.values():
            pending.put(_PROCESS_ENDED)
        self._pending.clear()

    async def _why_ended(self) -> str:
        status = await self._process.wait()
        self._log.seek(0)
        return child_processes.describe_exit(status, self._log.read())
