"""A mixed load of many clients: wrong completions, memory growth, requests that never end."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from openai import APIError, APIStatusError
from openai.types.chat import ChatCompletionMessageParam

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

    def half(part: Sequence[PlannedRequest]) -> _Half:
        start = time.perf_counter()
        outcomes = client.send(part, baselines)
        seconds = time.perf_counter() - start
        return _Half(outcomes, seconds, _wait_until_idle(server), server.rss_bytes())

    first, second = half(planned[: requests // 2]), half(planned[requests // 2 :])
    return Load(
        clients=CLIENTS,
        outcomes=(*first.outcomes, *second.outcomes),
        seconds=first.seconds + second.seconds,
        rss_half_bytes=first.rss_bytes,
        rss_end_bytes=second.rss_bytes,
        waiting=second.queue.waiting,
        running=second.queue.running,
        settle_s=second.queue.seconds,
    )


@dataclass(frozen=True)
class _Queue:
    seconds: float
    waiting: float
    running: float


@dataclass(frozen=True)
class _Half:
    outcomes: list[Outcome]
    seconds: float
    queue: _Queue
    rss_bytes: int


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
        completion = self.server.client.chat.completions.create(
            model=self.model,
            messages=_messages(question),
            max_tokens=question.max_tokens,
            temperature=_temperature(question),
            seed=question.seed,
        )
        return completion.choices[0].message.content or ""

    def _stream(self, request: PlannedRequest) -> Iterator[str]:
        """Yield the pieces of a stream until the client disconnects."""
        question = request.question
        with self.server.client.chat.completions.create(
            model=self.model,
            messages=_messages(question),
            max_tokens=question.max_tokens,
            temperature=_temperature(question),
            seed=question.seed,
            stream=True,
        ) as chunks:
            received = 0
            for chunk in chunks:
                if piece := chunk.choices[0].delta.content:
                    yield piece
                    received += 1
                if received == request.max_pieces:
                    return


def _messages(question: Question) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": question.text}]


def _temperature(question: Question) -> float:
    return 0.0 if question.seed is None else 1.0


def _wait_until_idle(server: RunningServer) -> _Queue:
    """Return when no request waits or runs, after `_IDLE_TIMEOUT_S` at the latest."""
    start = time.perf_counter()
    while True:
        metrics = server.metrics()
        queue = _Queue(
            seconds=time.perf_counter() - start,
            waiting=metrics["slmflow_requests_waiting"],
            running=metrics["slmflow_requests_running"],
        )
        if queue.waiting == queue.running == 0 or queue.seconds > _IDLE_TIMEOUT_S:
            return queue
        time.sleep(_POLL_S)
