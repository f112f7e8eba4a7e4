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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import IO, Any

import mlflow

from slmflow.errors import UserError
from slmflow.runtime.protocol import Event, is_final
from slmflow.serving import older_models
from slmflow.serving.pending import PendingChoices, PendingRequest
from slmflow.serving.request_defaults import RequestDefaults
from slmflow.system import child_processes

# A line may hold the responses to a frame of many rows.
_MAX_LINE_BYTES = 256 * 2**20

# For glibc: memory in blocks of a MiB or more returns to the system when it is freed. Otherwise the
# memory of a large batch may stay below later allocations.
_RETURN_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}

_PROCESS_ENDED: Event = {"type": "failed", "message": "the model's process ended"}


class ModelProcess:
    """The process and its pending requests."""

    name: str
    takes_messages: bool
    protocol_version: int
    adapters: tuple[str, ...]

    def __init__(self, process: Process, log: IO[str], defaults: RequestDefaults) -> None:
        """Communicate with a process that has just started and logs to `log`.

        defaults: options for requests that leave them out.
        """
        self._process, self._log, self._defaults = process, log, defaults
        self.started_at = int(time.time())
        self._ids = itertools.count()
        self._pending: dict[int, PendingRequest] = {}
        self._reader: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.on_finished: Callable[[Event], None] = lambda _: None
        self.on_cancel: Callable[[], None] = lambda: None

    @classmethod
    async def start(
        cls, model_uri: str, defaults: RequestDefaults, cache_mb: int
    ) -> "ModelProcess":
        """Return the process once it has loaded the model. Raises UserError if it cannot."""
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open as long as the process)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "slmflow.serving.worker", model_uri, str(cache_mb)),
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
        model = cls(process, log, defaults)
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
        """Send a request of type `chat`, `completion` or `invocations` with its fields.

        Raises RequestError for an option that needs a model logged by a newer slmflow.
        """
        if kind in ("chat", "completion"):
            fields["body"] = self._complete_body(fields["body"], is_chat=kind == "chat")
        request_id = next(self._ids)
        pending = PendingRequest(partial(self._cancel, request_id))
        self._start({request_id: pending}, {"id": request_id, "type": kind, **fields})
        return pending

    def submit_choices(
        self, kind: str, bodies: Sequence[Mapping[str, Any]], n: int, **fields: Any
    ) -> PendingChoices:
        """Send the requests for all choices of a response, to be decoded together.

        n: how many bodies in a row have the same prompt. Raises RequestError as `submit`.
        """
        completed = [self._complete_body(body, is_chat=kind == "chat") for body in bodies]
        choices, pending, requests = PendingChoices(n), {}, []
        for body in completed:
            request_id = next(self._ids)
            pending[request_id] = choices.open(partial(self._cancel, request_id))
            requests.append({"id": request_id, "type": kind, "body": body, **fields})
        self._start(pending, {"type": "together", "requests": requests})
        return choices

    def _start(self, pending: Mapping[int, PendingRequest], message: dict[str, Any]) -> None:
        if self.ended.done():
            for request in pending.values():
                request.put(_PROCESS_ENDED)
        else:
            self._send(message)
            self._pending.update(pending)

    def _complete_body(self, body: Mapping[str, Any], is_chat: bool) -> dict[str, Any]:
        return older_models.adapt(self._defaults.fill(body, is_chat), self.protocol_version)

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
        self.protocol_version = message["protocol_version"]
        self.adapters = tuple(each for each in message["adapters"] if each != self.name)
        if (used := message["template_variables"]) is not None:
            self._defaults.check_variables(used)
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
