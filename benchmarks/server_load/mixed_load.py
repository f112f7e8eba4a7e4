"""A mixed load from many clients: wrong answers, memory that grows, requests that stay behind."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from openai import APIError, APIStatusError
from openai.types.chat import ChatCompletionMessageParam

from benchmarks.server_load.requests import Kind, Outcome, Question, Visit, outcome, plan
from benchmarks.server_load.server import Served
from slmflow.console import messages

CLIENTS = 8

# The server may take a moment to see that a client has gone, and looks are this far apart.
_SETTLE_S, _LOOK_S = 10.0, 0.05


@dataclass(frozen=True)
class Load:
    """Outcomes in the order of the requests; memory is of the server and the model's process.

    seconds: of both halves; rss_half_bytes, rss_end_bytes: after each half; waiting, running: what
    /metrics shows at the end; settle_s: how long after the last answer it has shown that.
    """

    clients: int
    outcomes: tuple[Outcome, ...]
    seconds: float
    rss_half_bytes: int
    rss_end_bytes: int
    waiting: float
    running: float
    settle_s: float

    def of(self, kind: Kind) -> list[Outcome]:
        """Return the answered requests of a kind."""
        return [one for one in self.outcomes if one.kind == kind.value and one.status == "200"]

    @property
    def growth(self) -> float:
        """How much memory has grown over the second half, as a share."""
        return self.rss_end_bytes / self.rss_half_bytes - 1


def measure(served: Served, requests: int) -> Load:
    """Ask every question alone, then send that many requests from `CLIENTS` threads."""
    visits = plan(requests)
    model, expected = served.model, _alone(served, {visit.question for visit in visits})

    def half(part: Sequence[Visit]) -> _Half:
        began = time.perf_counter()
        outcomes = _visited(served, model, part, expected)
        seconds = time.perf_counter() - began
        return _Half(outcomes, seconds, _settled(served), served.rss_bytes())

    first, second = half(visits[: requests // 2]), half(visits[requests // 2 :])
    return Load(
        clients=CLIENTS,
        outcomes=(*first.outcomes, *second.outcomes),
        seconds=first.seconds + second.seconds,
        rss_half_bytes=first.rss_bytes,
        rss_end_bytes=second.rss_bytes,
        waiting=second.settled.waiting,
        running=second.settled.running,
        settle_s=second.settled.seconds,
    )


@dataclass(frozen=True)
class _Settled:
    seconds: float
    waiting: float
    running: float


@dataclass(frozen=True)
class _Half:
    outcomes: list[Outcome]
    seconds: float
    settled: _Settled
    rss_bytes: int


def _alone(served: Served, questions: set[Question]) -> dict[Question, str]:
    model = served.model
    with messages.counting() as progress:
        ordered = sorted(questions, key=lambda question: (question.text, question.max_tokens))
        return {
            question: _whole(served, model, question)
            for question in progress.track(ordered, description="questions alone")
        }


def _visited(
    served: Served, model: str, visits: Sequence[Visit], expected: Mapping[Question, str]
) -> list[Outcome]:
    with ThreadPoolExecutor(CLIENTS) as clients, messages.counting() as progress:
        outcomes = clients.map(lambda visit: _visit(served, model, visit, expected), visits)
        return list(progress.track(outcomes, total=len(visits), description="load"))


def _visit(served: Served, model: str, visit: Visit, expected: Mapping[Question, str]) -> Outcome:
    try:
        if not visit.stream:
            return outcome(visit, "200", _whole(served, model, visit.question), expected)
        pieces = list(_pieces(served, model, visit))
    except APIStatusError as error:
        return outcome(visit, str(error.status_code), "", expected)
    except APIError as error:
        return outcome(visit, type(error).__name__, "", expected)
    return outcome(visit, "200", "".join(pieces), expected, ended=visit.leaves_after is None)


def _whole(served: Served, model: str, question: Question) -> str:
    completion = served.client.chat.completions.create(
        model=model,
        messages=_messages(question),
        max_tokens=question.max_tokens,
        temperature=_temperature(question),
        seed=question.seed,
    )
    return completion.choices[0].message.content or ""


def _pieces(served: Served, model: str, visit: Visit) -> Iterator[str]:
    """Yield the pieces of a streamed answer until the client leaves."""
    question = visit.question
    with served.client.chat.completions.create(
        model=model,
        messages=_messages(question),
        max_tokens=question.max_tokens,
        temperature=_temperature(question),
        seed=question.seed,
        stream=True,
    ) as chunks:
        got = 0
        for chunk in chunks:
            if piece := chunk.choices[0].delta.content:
                yield piece
                got += 1
            if got == visit.leaves_after:
                return


def _messages(question: Question) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": question.text}]


def _temperature(question: Question) -> float:
    return 0.0 if question.seed is None else 1.0


def _settled(served: Served) -> _Settled:
    """Return when nothing waits and nothing runs, but after `_SETTLE_S` at the latest."""
    began = time.perf_counter()
    while True:
        figures = served.figures()
        settled = _Settled(
            seconds=time.perf_counter() - began,
            waiting=figures["slmflow_requests_waiting"],
            running=figures["slmflow_requests_running"],
        )
        if settled.waiting == settled.running == 0 or settled.seconds > _SETTLE_S:
            return settled
        time.sleep(_LOOK_S)
