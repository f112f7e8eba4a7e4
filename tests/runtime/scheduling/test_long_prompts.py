"""Prompts that are read in parts, beside streams and other requests."""

import pytest

from slmflow.runtime.scheduling.scheduler import LEAST_TOKENS, MOST_TOKENS
from tests.runtime.active_requests import active_request
from tests.runtime.scheduling.fake_engine import (
    Events,
    FakeEngine,
    completion,
    final_event,
    fixed_cost_scheduler,
    tokens,
)


@pytest.mark.parametrize("streamed", [True, False])
def test_stream_gets_a_token_after_each_short_part(
    monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    engine, events, later = FakeEngine(max_rows=1), Events(), Events()
    scheduler, arriving = (
        fixed_cost_scheduler(engine, monkeypatch),
        [active_request(800, 2, later.put)],
    )
    stream = active_request(10, 400, events.put)
    stream.streamed = streamed
    received: list[int] = []
    engine.before_step = lambda: scheduler.submit([arriving.pop()]) if arriving else None
    engine.before_part = lambda: received.append(len(stream.generated))
    scheduler.submit([stream])
    assert tokens(completion(later)) == 2
    parts = engine.parts[1:]
    assert sum(parts) == 800
    assert max(parts) == LEAST_TOKENS if streamed else max(parts) > LEAST_TOKENS
    assert received[1:] == list(range(received[1], received[1] + len(parts)))
    stream.cancel()
    final_event(events)


def test_part_takes_as_long_as_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, events = FakeEngine(max_rows=1), Events()
    scheduler = fixed_cost_scheduler(engine, monkeypatch)
    scheduler._costs._token_s, scheduler._costs._measured_tokens = 0.002, 100
    scheduler.submit([active_request(1000, 1, events.put)])
    completion(events)
    assert engine.parts == [250, 250, 250, 250]
    scheduler._costs._token_s = 0.000_01
    scheduler.submit([active_request(1000, 1, events.put)])
    completion(events)
    assert engine.parts[4:] == [MOST_TOKENS, 1000 - MOST_TOKENS]


def test_cancelled_prompt_is_not_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, events = FakeEngine(max_rows=1), Events()
    scheduler = fixed_cost_scheduler(engine, monkeypatch)
    request = active_request(6000, 5, events.put)
    engine.before_part = lambda: request.cancel() if len(engine.parts) == 3 else None
    scheduler.submit([request])
    assert completion(events).finish_reason == "cancelled"
    assert (len(engine.parts), engine.batches) == (4, [])
    scheduler.submit([active_request(10, 1, events.put)])
    completion(events)
    assert engine.given_up == [6000 - sum(engine.parts[:4])], "what is read can be used again"


def test_short_prompt_overtakes_long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, events, later = FakeEngine(max_rows=1), Events(), Events()
    scheduler, arriving = (
        fixed_cost_scheduler(engine, monkeypatch),
        [active_request(10, 1, later.put)],
    )
    engine.before_part = lambda: scheduler.submit([arriving.pop()]) if arriving else None
    long = [active_request(5000, 1, events.put) for _ in range(2)]
    scheduler.submit(long)
    completion(later)
    assert not any(each.finished for each in long)
    for _ in long:
        completion(events)


def test_batch_beside_a_stream_is_read_in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its prompts cannot be read in parts, so only short ones are batched."""
    engine, events, later = FakeEngine(max_rows=8), Events(), Events()
    scheduler = fixed_cost_scheduler(engine, monkeypatch)
    scheduler._costs._token_s, scheduler._costs._measured_tokens = 0.002, 100
    stream = active_request(1000, 1000, events.put)
    stream.streamed = True
    arriving = [[active_request(50, 4, later.put) for _ in range(8)]]
    engine.before_step = lambda: scheduler.submit(arriving.pop()) if arriving else None
    scheduler.submit([stream])
    for _ in range(8):
        completion(later)
    assert max(engine.batches) == 4
    assert max(engine.parts[1:][engine.parts[1:].index(200) :]) == 200
    stream.cancel()
    final_event(events)


def test_unread_prompt_joins_a_batch_of_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, events = FakeEngine(max_rows=8), Events()
    scheduler = fixed_cost_scheduler(engine, monkeypatch)
    arriving = [[active_request(150, 100, events.put) for _ in range(3)]]
    engine.before_part = lambda: scheduler.submit(arriving.pop()) if arriving else None
    scheduler.submit([active_request(150, 100, events.put)])
    for _ in range(4):
        completion(events)
    assert engine.batches == [4]
    assert engine.given_up == [22]


def test_full_batch_is_prefilled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, events = FakeEngine(max_rows=4), Events()
    engine.room = 30
    requests = [active_request(10, 20 + 20 * n, events.put) for n in range(3)]

    def make_room() -> None:
        engine.room = 30 * (1 + len(engine.batches))

    engine.before_part = make_room
    fixed_cost_scheduler(engine, monkeypatch).submit(requests)
    assert [tokens(completion(events)) for _ in requests] == [20, 40, 60]
    assert engine.batches[0] == 3
    assert engine.closed >= 1


def test_streams_that_arrive_together_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is read before the others arrive, and gets its first token with them."""
    engine, events = FakeEngine(max_rows=8), Events()
    scheduler = fixed_cost_scheduler(engine, monkeypatch)
    streams = [active_request(100, 100, events.put) for _ in range(8)]
    for stream in streams:
        stream.streamed = True
    first, *arriving = streams
    engine.before_part = lambda: [scheduler.submit(arriving), arriving.clear()]
    scheduler.submit([first])
    for _ in streams:
        completion(events)
    assert engine.batches == [1, 8]
