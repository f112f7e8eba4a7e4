"""A mixed load of many clients: wrong completions, memory growth, requests that never end."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from openai import APIError, APIStatusError

from benchmarks.server_load.requests import (
    Kind,
    Outcome,
    PlannedRequest,
    Question,
    compare,
    plan,
)
from benchmarks.server_load.server import RunningServer
from slmflow.console import progress_bars

CLIENTS = 8

# The server may take a moment to notice that a client has disconnected.
_IDLE_TIMEOUT_S, _POLL_S = 10.0, 0.05


@dataclass(frozen=True)
class Load:
    """Outcomes in the order of the requests. Memory is that of the server and its model process.

    seconds: of both halves. rss_half_bytes, rss_end_bytes: after each half. waiting, running:
    metrics at the end. settle_s: seconds from the last response until those metrics.
    """

    clients: int
    outcomes: tuple[Outcome, ...]
    seconds: float
    rss_half_bytes: int
    rss_end_bytes: int
    waiting: float
    running: float
    settle_s: float

    def successful(self, kind: Kind) -> list[Outcome]:
        """Return the outcomes of a kind with status 200."""
        return [each for each in self.outcomes if each.kind == kind.value and each.status == "200"]

    @property
    def growth(self) -> float:
        """Memory growth over the second half, as a share."""
        return self.rss_end_bytes / self.rss_half_bytes - 1


def measure(server: RunningServer, requests: int) -> Load:
    """Send every question without load, then so many requests from `CLIENTS` threads."""
    planned = plan(requests)
    client = _Client(server, server.model)
    baselines = client.baselines({request.question for request in planned})

    outcomes: list[Outcome] = []
    seconds, rss_bytes = 0.0, []
    for half in (planned[: requests // 2], planned[requests // 2 :]):
        start = time.perf_counter()
        outcomes += client.send(half, baselines)
        seconds += time.perf_counter() - start
        queue = _wait_until_idle(server)
        rss_bytes.append(server.rss_bytes())
    rss_half, rss_end = rss_bytes
    return Load(CLIENTS, tuple(outcomes), seconds, rss_half, rss_end, *queue)


@dataclass(frozen=True)
class _Client:
    server: RunningServer
    model: str

    def baselines(self, questions: set[Question]) -> dict[Question, str]:
        """Return the completion of each question without load."""
        ordered = sorted(questions, key=lambda question: (question.text, question.max_tokens))
        with progress_bars.item_bar() as progress:
            return {
                question: self._complete(question)
                for question in progress.track(ordered, description="questions alone")
            }

    def send(
        self, planned: Sequence[PlannedRequest], baselines: Mapping[Question, str]
    ) -> list[Outcome]:
        """Send requests from all threads and compare their responses."""
        with ThreadPoolExecutor(CLIENTS) as threads, progress_bars.item_bar() as progress:
            outcomes = threads.map(lambda request: self._send_one(request, baselines), planned)
            return list(progress.track(outcomes, total=len(planned), description="load"))

    def _send_one(self, request: PlannedRequest, baselines: Mapping[Question, str]) -> Outcome:
        try:
            if not request.stream:
                text = self._complete(request.question)
                return compare(request, "200", text, baselines)
            pieces = list(self._stream(request))
        except APIStatusError as error:
            return compare(request, str(error.status_code), "", baselines)
        except APIError as error:
            return compare(request, type(error).__name__, "", baselines)
        is_complete = request.max_pieces is None
        return compare(request, "200", "".join(pieces), baselines, is_complete)

    def _complete(self, question: Question) -> str:
        completion = self.server.client.chat.completions.create(**self._options(question))
        return completion.choices[0].message.content or ""

    def _stream(self, request: PlannedRequest) -> Iterator[str]:
        """Yield the pieces of a stream until the client disconnects."""
        options = self._options(request.question)
        with self.server.client.chat.completions.create(**options, stream=True) as chunks:
            received = 0
            for chunk in chunks:
                if piece := chunk.choices[0].delta.content:
                    yield piece
                    received += 1
                if received == request.max_pieces:
                    return

    def _options(self, question: Question) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": question.text}],
            "max_tokens": question.max_tokens,
            "temperature": 0.0 if question.seed is None else 1.0,
            "seed": question.seed,
        }


def _wait_until_idle(server: RunningServer) -> tuple[float, float, float]:
    """Wait until no request waits or runs, at most `_IDLE_TIMEOUT_S`.

    Returns the last fields of `Load`.
    """
    start = time.perf_counter()
    while True:
        metrics = server.metrics()
        waiting, running = (metrics[f"slmflow_requests_{n}"] for n in ("waiting", "running"))
        seconds = time.perf_counter() - start
        if waiting == running == 0 or seconds > _IDLE_TIMEOUT_S:
            return waiting, running, seconds
        time.sleep(_POLL_S)
