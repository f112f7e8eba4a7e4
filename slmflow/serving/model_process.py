"""The model in a process of its own, so that the server answers while it computes.

ONNX Runtime GenAI holds Python's lock all the time, for seconds while it reads a long prompt. The
process is `python -m slmflow.serving.worker`, asked and answering by a JSON object a line.
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
from slmflow.system import child_processes

# A line may be the answers to a frame of many rows.
_LINE_BYTES = 256 * 2**20

# glibc alone reads it. Memory in pieces of a MiB or more goes back to the system when it is freed;
# else what a large batch had stays, by chance, under what came after it.
_GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}

Event = dict[str, Any]

_ENDED = {"event": "failed", "message": "the model's process ended"}


class Ticket:
    """A request under way, and its events. The last is an answer, or why there is none.

    Events are {"event": "taken"}, {"event": "piece", "text": "..."}, {"event": "answer", ...},
    {"event": "response", "answers": [...], ...} and {"event": "refused" or "failed", "message":
    "..."}.
    """

    def __init__(self, cancel: Callable[[], None]) -> None:
        """Follow a request, which `cancel` ends."""
        self.taken = False
        self.unwanted = False
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._cancel = cancel

    def put(self, event: Event) -> None:
        """Note what happened to the request."""
        self.taken = True
        self._events.put_nowait(event)

    async def next(self) -> Event:
        """Return the next event."""
        return await self._events.get()

    async def last(self) -> Event:
        """Return the event that ends the request."""
        while _goes_on(event := await self.next()):
            pass
        return event

    def cancel(self) -> None:
        """Want no more of it, if it is not over."""
        if not self.unwanted:
            self.unwanted = True
            self._cancel()


class ModelProcess:
    """The process, and the requests that it has in hand."""

    name: str

    def __init__(self, process: Process, log: IO[str]) -> None:
        """Talk to a process that was just started; what it logs goes to `log`."""
        self._process, self._log = process, log
        self.started = int(time.time())
        self._numbers = itertools.count()
        self._tickets: dict[int, Ticket] = {}
        self._following: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.on_answer: Callable[[Event], None] = lambda _: None
        self.on_cancel: Callable[[], None] = lambda: None

    @classmethod
    async def start(cls, model_uri: str) -> "ModelProcess":
        """Return the process once the model is loaded. Raises UserError where it cannot be."""
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open as long as the process)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "slmflow.serving.worker", model_uri),
            stdin=PIPE,
            stdout=PIPE,
            stderr=log,
            env=child_processes.environment(
                **_GIVE_BACK,
                MLFLOW_TRACKING_URI=mlflow.get_tracking_uri(),
                SLMFLOW_TRACING="off",  # the server writes the traces
            ),
            limit=_LINE_BYTES,
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
        """How many requests the model has not begun."""
        return sum(not (ticket.taken or ticket.unwanted) for ticket in self._tickets.values())

    @property
    def running(self) -> int:
        """How many requests the model is answering."""
        return sum(ticket.taken for ticket in self._tickets.values())

    def ask(self, kind: str, **fields: Any) -> Ticket:
        """Send a request: `chat` or `completion` with its `request`, or `invocations`."""
        number = next(self._numbers)
        ticket = Ticket(partial(self._cancel, number))
        if self.ended.done():
            ticket.put(_ENDED)
        else:
            self._send({"id": number, "ask": kind, **fields})
            self._tickets[number] = ticket
        return ticket

    async def stop(self) -> None:
        """End the process."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        if self._following is not None:
            await self._following
        self._log.close()

    async def _load(self, model_uri: str) -> None:
        ready = await self._receive()
        if ready is None:
            raise UserError(
                f"serve.model_uri={model_uri}: the model could not be loaded: "
                f"{await self._epitaph()}"
            )
        if "refused" in ready:
            raise UserError(f"serve.model_uri={model_uri}: {ready['refused']}")
        self.name = ready["name"]
        self._following = asyncio.create_task(self._follow())

    def _cancel(self, number: int) -> None:
        """Have the process end a request; it is over when the process says so."""
        if number in self._tickets:
            self._send({"id": number, "ask": "cancel"})
            self.on_cancel()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None  # noqa: S101 (it is a pipe)
        if not self._process.stdin.is_closing():
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _receive(self) -> dict[str, Any] | None:
        assert self._process.stdout is not None  # noqa: S101 (it is a pipe)
        line = await self._process.stdout.readline()
        # A process that is killed may leave half a line.
        message: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None
        return message

    async def _follow(self) -> None:
        """Pass on what the process says, until it ends."""
        while (event := await self._receive()) is not None:
            number = event.pop("id")
            self._tickets[number].put(event)
            if not _goes_on(event):
                del self._tickets[number]
            for answer in event.get("answers", [event] if event["event"] == "answer" else []):
                self.on_answer(answer)
        self.ended.set_result(await self._epitaph())
        for ticket in self._tickets.values():
            ticket.put(_ENDED)
        self._tickets.clear()

    async def _epitaph(self) -> str:
        """Return why the process ended."""
        status = await self._process.wait()
        self._log.seek(0)
        return child_processes.why_ended(status, self._log.read())


def _goes_on(event: Event) -> bool:
    return event["event"] in ("taken", "piece")
