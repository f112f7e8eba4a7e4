"""Which requests share a batch and when, on a fake engine and on the real one."""

import ctypes
import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.pyfunc import PyFuncModel

from slmflow.runtime.chat_model import ChatModel
from slmflow.runtime.generation.active_request import ActiveRequest
from slmflow.runtime.generation.events import Completion, Event, PrefillStarted, TextPiece
from slmflow.runtime.generation.reasoning import ReasoningReader
from slmflow.runtime.pyfunc import GenaiPyfunc
from slmflow.runtime.scheduling.scheduler import Scheduler
from tests.runtime.active_requests import TOKENIZER, active_request
from tests.runtime.fixed_costs import FixedCosts
from tests.runtime.scheduling.fake_engine import (
    Events,
    FakeBatch,
    FakeEngine,
    completion,
    final_event,
    fixed_cost_scheduler,
    tokens,
)

Conversation = list[dict[str, str]]


def test_long_completion_restarts_without_finished_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, events = FakeEngine(max_rows=8), Events()
    requests = [active_request(10, 400 if n == 3 else 2, events.put) for n in range(8)]
    fixed_cost_scheduler(engine, monkeypatch).submit(requests)
    completions = [completion(events) for _ in range(8)]
    assert engine.batches == [8, 1]
    assert tokens(completions[-1]) == 400
    assert engine.step_rows[:6] == [8] * 6
    assert engine.step_rows[6:] == [1] * 400, "the generated tokens are replayed"


def test_starved_request_gets_third_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, events, later = FakeEngine(max_rows=1), Events(), Events()
    scheduler, arriving = Scheduler(engine), [active_request(10, 3, later.put)]
    monkeypatch.setattr("slmflow.runtime.scheduling.scheduler.STARVATION_S", 0.0)
    engine.before_step = lambda: scheduler.submit([arriving.pop()]) if arriving else None
    long = [active_request(10, 4000, events.put) for _ in range(2)]
    scheduler.submit(long)
    final_event(later)
    assert not any(each.finished for each in long)
    for each in long:
        each.cancel()
    for _ in long:
        final_event(events)


@pytest.mark.parametrize(
    ("prompt_tokens", "max_tokens", "batches"),
    [(10, 100, [1, 2]), (1000, 100, [1, 1]), (10, 3, [1, 1])],
    ids=["merged", "running prompt is long", "new completion is short"],
)
def test_running_batch_restarts_with_new_request_if_faster(
    monkeypatch: pytest.MonkeyPatch, prompt_tokens: int, max_tokens: int, batches: list[int]
) -> None:
    engine, events, later = FakeEngine(max_rows=8), Events(), Events()
    scheduler = fixed_cost_scheduler(engine, monkeypatch)
    arriving = [active_request(10, max_tokens, later.put)]
    engine.before_step = lambda: scheduler.submit([arriving.pop()]) if arriving else None
    scheduler.submit([active_request(prompt_tokens, 400, events.put)])
    assert tokens(completion(later)) == max_tokens
    assert tokens(completion(events)) == 400
    assert engine.batches[:2] == batches


def test_requests_that_arrive_during_prefill_join_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They can be submitted only when the generating thread releases the global lock."""
    engine, events = FakeEngine(max_rows=8), Events()
    scheduler = fixed_cost_scheduler(engine, monkeypatch)
    arriving = [active_request(10, 100, events.put) for _ in range(3)]
    releasing_time = SimpleNamespace(
        perf_counter=time.perf_counter,
        sleep=lambda _: scheduler.submit([arriving.pop()]) if arriving else None,
    )
    monkeypatch.setattr("slmflow.runtime.scheduling.scheduler.time", releasing_time)
    scheduler.submit([active_request(10, 100, events.put)])
    for _ in range(4):
        completion(events)
    assert engine.batches == [1, 4]


def test_first_step_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefill has computed it already."""
    engine, events = FakeEngine(max_rows=4), Events()
    scheduler, recorded = Scheduler(engine), list[int]()
    monkeypatch.setattr(scheduler._costs, "record_step", lambda rows, _: recorded.append(rows))
    scheduler.submit([active_request(10, 5, events.put) for _ in range(3)])
    for _ in range(3):
        final_event(events)
    assert recorded == [3] * 4


def test_cancelled_request_leaves_others_running() -> None:
    engine, events, other_events = FakeEngine(max_rows=4), Events(), Events()
    cancelled = active_request(10, 100, events.put)
    engine.before_step = lambda: cancelled.cancel() if len(cancelled.generated) == 3 else None
    Scheduler(engine).submit([cancelled, active_request(10, 20, other_events.put)])
    partial, other = completion(events), completion(other_events)
    assert partial.finish_reason == "cancelled"
    assert tokens(partial) < 100
    assert (other.finish_reason, tokens(other)) == ("length", 20)


def test_waiting_request_can_be_cancelled() -> None:
    engine, events = FakeEngine(max_rows=1), Events()
    engine.running.clear()
    others = [active_request(10, 2) for _ in range(3)]
    cancelled = active_request(10, 2, events.put)
    Scheduler(engine).submit([*others, cancelled])
    cancelled.cancel()
    engine.running.set()
    empty = completion(events)
    assert (empty.finish_reason, tokens(empty)) == ("cancelled", 0)


def test_scheduler_continues_after_failed_prefill() -> None:
    engine, events = FakeEngine(max_rows=1), Events()
    scheduler = Scheduler(engine)
    scheduler.submit([active_request(13, 5, events.put)])
    assert isinstance(final_event(events), RuntimeError)
    scheduler.submit([active_request(10, 5, events.put)])
    completion(events)


def test_many_requests_of_any_length_fill_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, events = FakeEngine(max_rows=16), Events()
    requests = [active_request(20 + n * 7 % 30, 20, events.put) for n in range(600)]
    fixed_cost_scheduler(engine, monkeypatch).submit(requests)
    completions = [completion(events) for _ in requests]
    assert sorted(each.usage["prompt_tokens"] for each in completions) == sorted(
        len(each.prompt) for each in requests
    )
    assert sum(engine.batches) == 600
    assert len(engine.batches) < 600 / 12


def test_requests_of_many_threads_are_answered() -> None:
    """Some arrive just as the generating thread runs out of work."""
    engine, outcomes = FakeEngine(max_rows=2), Events()
    scheduler = Scheduler(engine)

    def submit_and_wait() -> None:
        for _ in range(300):
            events = Events()
            scheduler.submit([active_request(3, 1, events.put)])
            outcomes.put(final_event(events))

    threads = [threading.Thread(target=submit_and_wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(1200):
        assert isinstance(outcomes.get(timeout=30), Completion)
    for thread in threads:
        thread.join(30)


@pytest.mark.parametrize("method", ["can_batch", "step"])
def test_engine_error_fails_all_and_scheduler_continues(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    engine, events = FakeEngine(max_rows=4), Events()
    scheduler = Scheduler(engine)

    def fail(*_: Any) -> bool:
        raise ValueError("an error")

    with monkeypatch.context() as patched:
        patched.setattr(engine if method == "can_batch" else FakeBatch, method, fail)
        scheduler.submit([active_request(10, 5, events.put) for _ in range(3)])
        assert all(isinstance(final_event(events), ValueError) for _ in range(3))
    scheduler.submit([active_request(10, 5, events.put)])
    completion(events)


@pytest.mark.parametrize("fails_at", [PrefillStarted, TextPiece, Completion])
def test_failing_listener_leaves_others_running(fails_at: type) -> None:
    engine, events = FakeEngine(max_rows=4), Events()
    received: list[Event] = []

    def fail(event: Event) -> None:
        received.append(event)
        if isinstance(event, fails_at):
            raise OSError("gone")

    Scheduler(engine).submit([active_request(10, 5, fail), active_request(10, 9, events.put)])
    assert tokens(completion(events)) == 9
    assert isinstance(received[-1], fails_at), "it receives nothing more"


def test_stream_yields_each_piece_before_the_next_token() -> None:
    """Also with an engine that, like the real one, holds the global lock while it computes."""
    engine = FakeEngine(max_rows=1)
    steps: list[int] = []
    engine.before_step = lambda: [steps.append(1), ctypes.PyDLL(None).usleep(20_000)]
    prompts = SimpleNamespace(
        tokenizer=TOKENIZER,
        reasoning=ReasoningReader(None, TOKENIZER),
        template_variables=frozenset(),
        encode_chat=lambda *_, **__: [0],
    )
    model = ChatModel(engine, prompts, "fake", {"temperature": 0, "top_p": 1})
    request = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 20}
    delays = [len(steps) - 1 - n for n, _ in enumerate(model.stream(request))][:-1]
    assert len(delays) == 20
    assert delays.count(0) > 15, "a busy machine may delay a few"


def texts(model: GenaiPyfunc, requests: Sequence[dict[str, Any]]) -> list[str]:
    return [each.text for each in model._chat_model.generate(requests)]


def texts_alone(model: GenaiPyfunc, requests: Sequence[dict[str, Any]]) -> list[str]:
    return [text for request in requests for text in texts(model, [request])]


def test_staggered_streams_equal_single_completions(
    bare: GenaiPyfunc, questions: list[Conversation]
) -> None:
    requests = [{"messages": question} for question in questions[:8]]
    alone = texts_alone(bare, requests)
    streams = []
    for request in requests:
        streams.append(bare._chat_model.stream(request))
        next(streams[-1])
    rests = [
        "".join(event.text for event in stream if isinstance(event, TextPiece))
        for stream in streams
    ]
    assert all(whole.endswith(rest) for whole, rest in zip(alone, rests, strict=True))


def test_closed_stream_cancels_its_request(
    pyfunc: PyFuncModel,
    bare: GenaiPyfunc,
    questions: list[Conversation],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The penalty suppresses the end tokens, which are in the template, so the completion is long.
    request = {"messages": questions[0], "repetition_penalty": 10.0, "max_tokens": 400}
    model = bare._chat_model
    [whole] = model.generate([request])
    submit, submitted = model.submit, list[ActiveRequest]()
    monkeypatch.setattr(model, "submit", lambda each: [submitted.extend(each), submit(each)])
    stream = pyfunc.predict_stream(request)
    next(stream)
    stream.close()
    [cancelled] = submitted
    assert cancelled.cancelled
    deadline = time.monotonic() + 30
    while not cancelled.finished and time.monotonic() < deadline:
        time.sleep(0.01)
    assert cancelled.finished
    assert len(cancelled.generated) < tokens(whole) - 50


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_rows_with_different_options_share_a_batch(
    bare: GenaiPyfunc, questions: list[Conversation], rows: int
) -> None:
    options = [{}, {"temperature": 1.5, "seed": 7}, {"repetition_penalty": 1.5}, {"max_tokens": 2}]
    requests = [
        {"messages": questions[row % len(questions)], **options[row % len(options)]}
        for row in range(rows)
    ]
    assert texts(bare, requests) == texts_alone(bare, requests)


def test_restart_does_not_change_completions(
    bare: GenaiPyfunc, questions: list[Conversation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """These costs cause a restart whenever a row is finished."""
    scheduler, costs = bare._chat_model._scheduler, FixedCosts()
    monkeypatch.setattr(costs, "step_s", lambda rows: 100.0**rows)
    monkeypatch.setattr(scheduler, "_costs", costs)
    start, batches = scheduler._engine.start_prefill, list[int]()
    monkeypatch.setattr(
        scheduler._engine, "start_prefill", lambda each: [batches.append(len(each)), start(each)][1]
    )
    sampled = {"temperature": 1.5, "seed": 7, "repetition_penalty": 1.2}
    requests = [
        {"messages": question, "max_tokens": 3 + n, **(sampled if n % 2 else {})}
        for n, question in enumerate(questions[:6])
    ]
    alone = texts_alone(bare, requests)
    batches.clear()
    assert texts(bare, requests) == alone
    assert batches[0] > 3
    assert len(batches) > 2
