"""An engine without a model, and what its requests deliver."""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from slmflow.runtime.generation.active_request import ActiveRequest
from slmflow.runtime.generation.engine import padded_tokens
from slmflow.runtime.generation.events import Completion, Event, PrefillStarted, TextPiece
from slmflow.runtime.generation.sampling import NO_SETTINGS
from slmflow.runtime.scheduling.scheduler import Scheduler
from tests.runtime.fixed_costs import FixedCosts

Events = queue.SimpleQueue[Event]


class FakeEngine:
    """Generates token 0, records its batches, and can be paused before a step."""

    context_length, end_tokens = 10_000, frozenset({1})
    defaults, supports_guidance = dict[str, Any](), False
    adapters: tuple[str, ...] = ()
    vocabulary_size, settings = 2, NO_SETTINGS

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self.batches: list[int] = []
        self.step_rows: list[int] = []
        self.running = threading.Event()
        self.running.set()
        self.before_step: Callable[[], None] = lambda: None
        self.before_part: Callable[[], None] = lambda: None
        self.parts: list[int] = []
        self.given_up: list[int] = []
        self.closed, self.room = 0, 1_000_000

    def can_batch(self, requests: Sequence[ActiveRequest]) -> bool:
        return len(requests) <= self.max_rows

    def count_unread(self, requests: Sequence[ActiveRequest]) -> int:
        return padded_tokens(requests)

    def shared_length(self, request: ActiveRequest, other: ActiveRequest) -> int:
        return 0

    def start_prefill(self, requests: Sequence[ActiveRequest]) -> "FakePrefill":
        if any(len(each.prompt) == 13 for each in requests):
            raise RuntimeError("a prompt of 13 tokens")
        return FakePrefill(self, list(requests))


class FakePrefill:
    """Reads a single prompt in parts, several as a whole."""

    def __init__(self, engine: FakeEngine, requests: list[ActiveRequest]) -> None:
        self.engine, self.requests, self.unread = engine, requests, padded_tokens(requests)

    def advance(self, tokens: int) -> "FakeBatch | None":
        self.engine.before_part()
        read = min(tokens, self.unread) if len(self.requests) == 1 else self.unread
        self.engine.parts.append(read)
        self.unread -= read
        if self.unread:
            return None
        self.engine.batches.append(len(self.requests))
        return FakeBatch(self.engine, self.requests)

    def close(self) -> None:
        self.engine.given_up.append(self.unread)


class FakeBatch:
    def __init__(self, engine: FakeEngine, requests: list[ActiveRequest]) -> None:
        self.engine, self.requests, self.steps = engine, requests, 0

    @property
    def is_full(self) -> bool:
        return any(len(each.generated) == self.engine.room for each in self.requests)

    def close(self) -> None:
        self.engine.closed += 1

    def step(self) -> None:
        assert self.engine.running.wait(30)
        self.engine.before_step()
        unfinished = [each for each in self.requests if not each.finished]
        self.engine.step_rows.append(len(self.requests))
        self.steps += 1
        for each in unfinished:
            if len(each.generated) < self.steps:
                each.append_token(0)


def fixed_cost_scheduler(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    scheduler = Scheduler(engine)
    monkeypatch.setattr(scheduler, "_costs", FixedCosts())
    return scheduler


def final_event(events: Events) -> Event:
    while isinstance(event := events.get(timeout=30), TextPiece | PrefillStarted):
        pass
    return event


def completion(events: Events) -> Completion:
    event = final_event(events)
    assert isinstance(event, Completion)
    return event


def tokens(of: Completion) -> int:
    return of.usage["completion_tokens"]
