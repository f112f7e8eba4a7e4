"""Who is answered with whom, and when: on an engine that only counts, and on the real one."""

import ctypes
import queue
import threading
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.pyfunc import PyFuncModel

from slmflow.runtime.chat_model import ChatModel
from slmflow.runtime.generation.answer import Answer, Event, Job, Taken
from slmflow.runtime.pyfunc import GenaiPyfunc
from slmflow.runtime.scheduling.costs import Costs
from slmflow.runtime.scheduling.scheduler import Scheduler
from tests.runtime.jobs import TOKENIZER, job

Conversation = list[dict[str, str]]


class Counting:
    """An engine that says token 0 for ever, notes its batches, and can be held up in a step."""

    context_length, ends, defaults, guides = 10_000, frozenset({1}), dict[str, Any](), False

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.batches: list[int] = []
        self.took: list[int] = []
        self.going = threading.Event()
        self.going.set()
        self.before_step: Callable[[], None] = lambda: None

    def fit(self, jobs: Sequence[Job]) -> bool:
        return len(jobs) <= self.rows

    def read(self, jobs: Sequence[Job]) -> "CountingBatch":
        if any(len(job.prompt) == 13 for job in jobs):
            raise RuntimeError("13 tokens are not taken")
        self.batches.append(len(jobs))
        return CountingBatch(self, list(jobs))


class CountingBatch:
    def __init__(self, engine: Counting, rows: list[Job]) -> None:
        self.engine, self.rows, self.done = engine, rows, 0

    def step(self) -> None:
        assert self.engine.going.wait(30)
        self.engine.before_step()
        live = [job for job in self.rows if not job.finished]
        self.engine.took.append(len(self.rows))
        self.done += 1
        for each in live:
            if len(each.said) < self.done:
                each.say(0)


class Unmeasured(Costs):
    """Does not learn that counting takes no time."""

    def read(self, tokens: int, seconds: float) -> None: ...

    def stepped(self, rows: int, seconds: float) -> None: ...


def unmeasured(engine: Counting, monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    scheduler = Scheduler(engine)
    monkeypatch.setattr(scheduler, "_costs", Unmeasured())
    return scheduler


def until_over(told: "queue.SimpleQueue[Event]") -> Event:
    while isinstance(event := told.get(timeout=30), str | Taken):
        pass
    return event


def test_those_who_wait_together_are_one_batch_as_far_as_they_fit() -> None:
    engine, told = Counting(rows=4), queue.SimpleQueue[Event]()
    Scheduler(engine).submit([job(10, 5, told.put) for _ in range(6)])
    answers = [until_over(told) for _ in range(6)]
    assert all(isinstance(answer, Answer) and answer.completion_tokens == 5 for answer in answers)
    assert engine.batches == [4, 2]


def test_one_that_has_much_to_say_goes_on_without_those_who_are_finished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, told = Counting(rows=8), queue.SimpleQueue[Event]()
    jobs = [job(10, 400 if n == 3 else 2, told.put) for n in range(8)]
    unmeasured(engine, monkeypatch).submit(jobs)
    answers = [until_over(told) for _ in range(8)]
    assert engine.batches == [8, 1]
    assert isinstance(answers[-1], Answer)
    assert answers[-1].completion_tokens == 400
    assert engine.took[:6] == [8] * 6
    assert engine.took[6:] == [1] * 400, "what it has said is gone through again"


def test_who_has_waited_long_gets_a_batch_beside_the_usual_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, told, later = Counting(rows=1), queue.SimpleQueue[Event](), queue.SimpleQueue[Event]()
    scheduler, come = Scheduler(engine), [job(10, 3, later.put)]
    monkeypatch.setattr("slmflow.runtime.scheduling.scheduler.PATIENCE_S", 0.0)
    engine.before_step = lambda: scheduler.submit([come.pop()]) if come else None
    long = [job(10, 4000, told.put) for _ in range(2)]
    scheduler.submit(long)
    until_over(later)
    assert not any(each.finished for each in long)
    for each in long:
        each.cancel()
    for _ in long:
        until_over(told)


@pytest.mark.parametrize(
    ("tokens", "most", "batches"),
    [(10, 100, [1, 2]), (1000, 100, [1, 1]), (10, 3, [1, 1])],
    ids=["it is joined", "its prompt is long", "the other says little"],
)
def test_who_comes_later_joins_one_that_has_just_begun_where_that_takes_less_time(
    monkeypatch: pytest.MonkeyPatch, tokens: int, most: int, batches: list[int]
) -> None:
    engine, told, later = Counting(rows=8), queue.SimpleQueue[Event](), queue.SimpleQueue[Event]()
    scheduler = unmeasured(engine, monkeypatch)
    come = [job(10, most, later.put)]
    engine.before_step = lambda: scheduler.submit([come.pop()]) if come else None
    scheduler.submit([job(tokens, 400, told.put)])
    for each, said in ((later, most), (told, 400)):
        answer = until_over(each)
        assert isinstance(answer, Answer)
        assert answer.completion_tokens == said
    assert engine.batches[:2] == batches


def test_all_who_come_while_another_is_read_join_it_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They can submit only when the thread that generates lets go of the interpreter."""
    engine, told = Counting(rows=8), queue.SimpleQueue[Event]()
    scheduler = unmeasured(engine, monkeypatch)
    come = [job(10, 100, told.put) for _ in range(3)]
    released = SimpleNamespace(
        perf_counter=time.perf_counter,
        sleep=lambda _: scheduler.submit([come.pop()]) if come else None,
    )
    monkeypatch.setattr("slmflow.runtime.scheduling.scheduler.time", released)
    scheduler.submit([job(10, 100, told.put)])
    assert all(isinstance(until_over(told), Answer) for _ in range(4))
    assert engine.batches == [1, 4]


def test_the_step_that_reading_has_computed_is_not_taken_for_a_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, told = Counting(rows=4), queue.SimpleQueue[Event]()
    scheduler, stepped = Scheduler(engine), list[int]()
    monkeypatch.setattr(scheduler._costs, "stepped", lambda rows, _: stepped.append(rows))
    scheduler.submit([job(10, 5, told.put) for _ in range(3)])
    for _ in range(3):
        until_over(told)
    assert stepped == [3] * 4


def test_a_job_that_is_cancelled_leaves_and_the_others_go_on() -> None:
    engine, told = Counting(rows=4), queue.SimpleQueue[Event]()
    kept, unwanted = queue.SimpleQueue[Event](), job(10, 100, told.put)
    engine.before_step = lambda: unwanted.cancel() if len(unwanted.said) == 3 else None
    Scheduler(engine).submit([unwanted, job(10, 20, kept.put)])
    answer, other = until_over(told), until_over(kept)
    assert isinstance(answer, Answer)
    assert isinstance(other, Answer)
    assert answer.finish_reason == "cancelled"
    assert answer.completion_tokens < 100
    assert (other.finish_reason, other.completion_tokens) == ("length", 20)


def test_one_that_waits_can_be_cancelled_too() -> None:
    engine, told = Counting(rows=1), queue.SimpleQueue[Event]()
    engine.going.clear()
    scheduler = Scheduler(engine)
    rest = [job(10, 2, lambda _: None) for _ in range(3)]
    unwanted = job(10, 2, told.put)
    scheduler.submit([*rest, unwanted])
    unwanted.cancel()
    engine.going.set()
    answer = until_over(told)
    assert isinstance(answer, Answer)
    assert (answer.finish_reason, answer.completion_tokens) == ("cancelled", 0)


def test_what_the_engine_refuses_is_told_and_the_next_is_answered() -> None:
    engine, told = Counting(rows=1), queue.SimpleQueue[Event]()
    scheduler = Scheduler(engine)
    scheduler.submit([job(13, 5, told.put)])
    assert isinstance(until_over(told), RuntimeError)
    scheduler.submit([job(10, 5, told.put)])
    assert isinstance(until_over(told), Answer)


def test_all_of_many_are_answered_whatever_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, told = Counting(rows=16), queue.SimpleQueue[Event]()
    jobs = [job(20 + number * 7 % 30, 20, told.put) for number in range(600)]
    unmeasured(engine, monkeypatch).submit(jobs)
    answers = [until_over(told) for _ in jobs]
    assert all(isinstance(answer, Answer) for answer in answers)
    assert sorted(answer.prompt_tokens for answer in answers) == sorted(len(j.prompt) for j in jobs)
    assert sum(engine.batches) == 600
    assert len(engine.batches) < 600 / 12


def test_all_who_come_from_many_threads_are_answered() -> None:
    """Also those who come just when the thread that generates has no more work."""
    engine, told = Counting(rows=2), queue.SimpleQueue[Event]()
    scheduler = Scheduler(engine)

    def ask() -> None:
        for _ in range(300):
            own = queue.SimpleQueue[Event]()
            scheduler.submit([job(3, 1, own.put)])
            told.put(until_over(own))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(1200):
        assert isinstance(told.get(timeout=30), Answer)
    for thread in threads:
        thread.join(30)


@pytest.mark.parametrize("place", ["fit", "step"])
def test_a_fault_is_told_to_all_and_the_next_is_answered(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    engine, told = Counting(rows=4), queue.SimpleQueue[Event]()
    scheduler = Scheduler(engine)

    def fault(*_: Any) -> bool:
        raise ValueError("a fault")

    with monkeypatch.context() as patched:
        patched.setattr(*{"fit": (engine, "fit"), "step": (CountingBatch, "step")}[place], fault)
        scheduler.submit([job(10, 5, told.put) for _ in range(3)])
        assert all(isinstance(until_over(told), ValueError) for _ in range(3))
    scheduler.submit([job(10, 5, told.put)])
    assert isinstance(until_over(told), Answer)


@pytest.mark.parametrize("fails_at", [Taken, str, Answer])
def test_who_fails_to_listen_does_not_disturb_the_others(fails_at: type) -> None:
    engine, told = Counting(rows=4), queue.SimpleQueue[Event]()
    heard: list[Event] = []

    def fail(event: Event) -> None:
        heard.append(event)
        if isinstance(event, fails_at):
            raise OSError("gone")

    Scheduler(engine).submit([job(10, 5, fail), job(10, 9, told.put)])
    answer = until_over(told)
    assert isinstance(answer, Answer)
    assert answer.completion_tokens == 9
    assert isinstance(heard[-1], fails_at), "it hears no more"


class OneToken:
    """Prompts of one token."""

    tokenizer = TOKENIZER

    def of_chat(self, messages: Sequence[Any]) -> list[int]:
        return [0]


def test_a_stream_gives_a_piece_before_the_next_token_is_computed() -> None:
    """Also where, as the real one does, an engine keeps the interpreter while it computes."""
    engine = Counting(rows=1)
    begun: list[int] = []
    engine.before_step = lambda: [begun.append(1), ctypes.PyDLL(None).usleep(20_000)]
    model = ChatModel(engine, OneToken(), "counting", {"temperature": 0, "top_p": 1})
    asked = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 20}
    late = [len(begun) - 1 - n for n, _ in enumerate(model.stream(asked))][:-1]
    assert len(late) == 20
    assert late.count(0) > 15, "as many are allowed to be late as the machine may be busy"


def test_many_at_once_get_the_answers_they_get_alone(
    bare: GenaiPyfunc, questions: list[Conversation]
) -> None:
    alone = [bare.chat.answers([{"messages": question}])[0].text for question in questions]
    together = bare.chat.answers([{"messages": question} for question in questions])
    assert [answer.text for answer in together] == alone
    assert [answer.finish_reason for answer in together] == ["stop"] * len(questions)


def test_streams_that_begin_one_after_the_other_do_not_disturb_each_other(
    bare: GenaiPyfunc, questions: list[Conversation]
) -> None:
    alone = [bare.chat.answers([{"messages": question}])[0].text for question in questions[:8]]
    streams = []
    for question in questions[:8]:
        streams.append(bare.chat.stream({"messages": question}))
        next(streams[-1])
    texts = ["".join(event for event in stream if isinstance(event, str)) for stream in streams]
    assert all(whole.endswith(rest) for whole, rest in zip(alone, texts, strict=True))


def test_a_stream_that_is_closed_frees_the_model(
    pyfunc: PyFuncModel,
    bare: GenaiPyfunc,
    questions: list[Conversation],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # It has much to say: the penalty takes the end tokens, which the template has, off its mind.
    request = {"messages": questions[0], "repetition_penalty": 10.0, "max_tokens": 400}
    [whole] = bare.chat.answers([request])
    submit, submitted = bare.chat.submit, list[Job]()
    monkeypatch.setattr(bare.chat, "submit", lambda jobs: [submitted.extend(jobs), submit(jobs)])
    stream = pyfunc.predict_stream(request)
    next(stream)
    stream.close()
    [job] = submitted
    assert job.cancelled
    until = time.monotonic() + 30
    while not job.finished and time.monotonic() < until:
        time.sleep(0.01)
    assert job.finished
    assert len(job.said) < whole.completion_tokens - 50


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_rows_of_unlike_options_share_a_batch(
    bare: GenaiPyfunc, questions: list[Conversation], rows: int
) -> None:
    options = [{}, {"temperature": 1.5, "seed": 7}, {"repetition_penalty": 1.5}, {"max_tokens": 2}]
    requests = [
        {"messages": questions[row % 4], **options[row % len(options)]} for row in range(rows)
    ]
    alone = [bare.chat.answers([request])[0].text for request in requests]
    assert [answer.text for answer in bare.chat.answers(requests)] == alone


def test_rows_that_begin_anew_go_on_as_they_would_have(
    bare: GenaiPyfunc, questions: list[Conversation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here whenever one of them is finished."""
    scheduler, costs = bare.chat._scheduler, Unmeasured()
    monkeypatch.setattr(costs, "step_s", lambda rows: 100.0**rows)
    monkeypatch.setattr(scheduler, "_costs", costs)
    read, batches = scheduler._engine.read, list[int]()
    monkeypatch.setattr(scheduler._engine, "read", lambda j: [batches.append(len(j)), read(j)][1])
    sampled = {"temperature": 1.5, "seed": 7, "repetition_penalty": 1.2}
    requests = [
        {"messages": question, "max_tokens": 3 + number, **(sampled if number % 2 else {})}
        for number, question in enumerate(questions[:6])
    ]
    alone = [bare.chat.answers([request])[0].text for request in requests]
    batches.clear()
    assert [answer.text for answer in bare.chat.answers(requests)] == alone
    assert batches[0] > 3
    assert len(batches) > 2
