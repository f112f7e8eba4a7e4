"""MLflow's way in: requests that its scoring server answers with the loaded model."""

import dataclasses
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from slmflow.runtime.generation.answer import Job
from slmflow.serving.loaded_model import Loaded
from slmflow.serving.worker_channel import Channel

# Each waits for what it asks of the model, whose scheduler shares it among them and all others.
_THREADS = 8


class Invocations:
    """Requests under way, each in a thread of its own."""

    def __init__(self, loaded: Loaded, channel: Channel) -> None:
        """Serve a loaded model."""
        self._loaded, self._channel = loaded, channel
        self._threads = ThreadPoolExecutor(max_workers=_THREADS)
        self._begun: dict[int, Invocation] = {}
        self._this = threading.local()
        loaded.chat.on_asked = self._asked

    def begin(self, number: int, body: str, content_type: str) -> None:
        """Have a request answered."""
        self._begun[number] = invocation = Invocation()
        self._threads.submit(self._answer, number, invocation, body, content_type)

    def cancel(self, number: int) -> None:
        """Want no more of it, if it is under way."""
        if invocation := self._begun.get(number):
            invocation.cancel()

    def _answer(self, number: int, invocation: "Invocation", body: str, content_type: str) -> None:
        self._channel.send(id=number, event="taken")
        self._this.invocation = invocation
        try:
            response = self._loaded.invocations(body, content_type)
        except Exception as error:
            self._channel.fail(number, error)
        else:
            answers = [dataclasses.asdict(job.answer) for job in invocation.jobs if job.answer]
            self._channel.send(id=number, event="response", answers=answers, **response)
        del self._begun[number]

    def _asked(self, jobs: Sequence[Job]) -> None:
        """Note what the request of this thread asks of the model."""
        self._this.invocation.ask(jobs)


class Invocation:
    """What one request has asked of the model, to be cancelled at any time by another thread."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.jobs: list[Job] = []
        self._unwanted = False
        self._lock = threading.Lock()

    def ask(self, jobs: Sequence[Job]) -> None:
        """Note jobs."""
        with self._lock:
            self.jobs.extend(jobs)
            if self._unwanted:
                self._cancel_jobs()

    def cancel(self) -> None:
        """Want no more of what was asked and will be."""
        with self._lock:
            self._unwanted = True
            self._cancel_jobs()

    def _cancel_jobs(self) -> None:
        for job in self.jobs:
            job.cancel()
