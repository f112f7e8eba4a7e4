"""Real MLflow models, measured in worker processes."""

import dataclasses
import math
from collections.abc import Collection, Mapping
from itertools import groupby
from pathlib import Path

import pytest
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, Schema

from slmflow.datasets.rows import Row
from slmflow.errors import UserError
from slmflow.measurement.interleaved import Plan, measure
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, BatchCheck, Likelihood, Timing
from tests.measurement.models.logged import PROMPT, save_model

pytestmark = pytest.mark.usefixtures("tracking")


def conversation(*turns: str, answer: str) -> Row:
    """Return a row with alternating user and assistant messages."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    return Row(messages, answer)


ROWS = [conversation("one", answer="uno"), conversation("one two three", answer="uno dos tres")]


def test_chat_model_is_measured_completely(tmp_path: Path) -> None:
    ballast = b"x" * 1_000_000_000
    (measured,) = measure([save_model(tmp_path / "model", "chat_model.py")], ROWS)
    assert [answer.text for answer in measured.answers] == ["one", "one two three"]
    assert [answer.completion_tokens for answer in measured.answers] == [1, 3]
    assert [answer.prompt_tokens for answer in measured.answers] == [1, 3]
    assert [timing.row for timing in measured.timings] == [0, 1]
    assert [timing.completion_tokens for timing in measured.timings] == [1, 3]
    assert all(timing.first_token_s and timing.latency_s > 0 for timing in measured.timings)
    half = math.log(0.5)
    assert measured.likelihoods == (Likelihood(half, 1), Likelihood(3 * half, 3))
    assert measured.load_s and measured.load_s > 0
    # Excludes the memory of this parent process.
    assert measured.peak_rss_bytes is None or 10e6 < measured.peak_rss_bytes < len(ballast)


def test_prompt_model_has_no_token_counts_or_likelihoods(tmp_path: Path) -> None:
    (measured,) = measure([save_model(tmp_path / "model", "prompt_model.py", PROMPT)], ROWS)
    assert [answer.text for answer in measured.answers] == ["one", "one two three"]
    for answer in measured.answers:
        assert answer.prompt_tokens is answer.completion_tokens is None
    assert [timing.first_token_s for timing in measured.timings] == [None, None]
    assert measured.likelihoods is None


def test_prompt_model_rejects_a_conversation(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", "prompt_model.py", PROMPT)
    with pytest.raises(
        UserError, match="measured: the model takes a prompt, but a row is a conversation of 3 mess"
    ):
        measure([model], [conversation("one", "two", "three", answer="")])


@pytest.mark.parametrize(
    ("question", "reason"),
    [("crash", "the model model .*: ValueError: the parrot is tired"), ("die", "SIGKILL.*memory")],
)
def test_failed_worker_is_reported_with_its_error(
    tmp_path: Path, question: str, reason: str
) -> None:
    model = save_model(tmp_path / "model", "chat_model.py")
    with pytest.raises(UserError, match=reason):
        measure([model], [conversation("one", answer="uno"), conversation(question, answer="")])


def test_rejected_row_keeps_the_other_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [ROWS[0], conversation("reject", answer="no"), ROWS[1]]
    (measured,) = measure([save_model(tmp_path / "model", "chat_model.py")], rows)
    assert [answer.text for answer in measured.answers] == ["one", "", "one two three"]
    error = "the parrot knows no such word"
    assert [answer.error for answer in measured.answers] == [None, error, None]
    assert measured.answers[1].completion_tokens is None
    assert [timing.row for timing in measured.timings] == [0, 2]
    half = math.log(0.5)
    assert measured.likelihoods == (Likelihood(half, 1), Likelihood(0, 0), Likelihood(3 * half, 3))
    warning = " ".join(capsys.readouterr().err.split())
    assert f"rejected 1 of 3 rows, which count as not answered: row 2: {error}" in warning


def test_model_that_rejects_all_rows_is_not_measured(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", "chat_model.py")
    with pytest.raises(UserError, match="rejected all rows: row 1: the parrot knows no such word"):
        measure([model], [conversation("reject", answer="no")])


def test_two_models_alternate_with_changing_order(tmp_path: Path) -> None:
    models = [save_model(tmp_path / name, "clock_model.py") for name in ("first", "second")]
    rows = [conversation(str(number), answer="") for number in range(20)]
    measured = measure(models, rows)
    assert [each.model for each in measured] == models
    # Without token counts, the time to the first token is unknown.
    assert {timing.first_token_s for each in measured for timing in each.timings} == {None}
    requests = sorted(
        (int(answer.text), each.model.flavor) for each in measured for answer in each.answers
    )
    turns = [(name, len(list(rows))) for name, rows in groupby(name for _, name in requests)]
    first, second = "first", "second"
    assert turns == [
        *((first, 4), (second, 8), (first, 4), (second, 4)),
        *((first, 8), (second, 4), (first, 4), (second, 4)),
    ]


@pytest.mark.long  # the test of two models shows turns and their order
def test_three_models_take_every_position(tmp_path: Path) -> None:
    models = [save_model(tmp_path / name, "clock_model.py") for name in ("a", "b", "c")]
    measured = measure(models, [conversation(str(number), answer="") for number in range(17)])
    orders = [
        "".join(name for _, name in sorted((m.answers[row].text, m.model.flavor) for m in measured))
        for row in range(0, 17, 4)
    ]
    assert orders == ["abc", "bca", "cab", "cba", "acb"]


def test_progress_callback_can_stop_the_measurement(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def stop_after_two_turns(
        _: MeasuredModel, answers: Mapping[int, Answer], timings: Collection[Timing]
    ) -> None:
        seen.append((len(answers), len(timings)))
        if len(answers) == 8:
            raise InterruptedError

    rows = [conversation(str(number), answer="") for number in range(20)]
    with pytest.raises(InterruptedError):
        measure(
            [save_model(tmp_path / "model", "clock_model.py")],
            rows,
            on_progress=stop_after_two_turns,
        )
    assert seen == [(4, 4), (8, 8)]


def test_only_a_sample_of_rows_is_timed(tmp_path: Path) -> None:
    rows = [conversation(f"{number} word" * number, answer="") for number in range(1, 13)]
    (measured,) = measure(
        [save_model(tmp_path / "model", "chat_model.py")], rows, Plan(seed=0, timed_rows=3)
    )
    assert [timing.row for timing in measured.timings] == [2, 6, 10]
    assert [answer.text for answer in measured.answers] == [row.question for row in rows]
    assert measured.batch_check == BatchCheck(3)


def test_without_timed_rows_no_time_and_memory_is_reported(tmp_path: Path) -> None:
    (measured,) = measure(
        [save_model(tmp_path / "model", "chat_model.py")], ROWS, Plan(timed_rows=0)
    )
    assert [answer.text for answer in measured.answers] == ["one", "one two three"]
    assert measured.timings == ()
    assert measured.load_s is measured.peak_rss_bytes is measured.batch_check is None


def test_unanswerable_rows_are_not_sent(tmp_path: Path) -> None:
    rows = [ROWS[0], conversation("crash", answer="no"), ROWS[1]]
    plan = Plan(unanswerable={1: "the prompt is too long"})
    (measured,) = measure([save_model(tmp_path / "model", "chat_model.py")], rows, plan)
    assert [answer.error for answer in measured.answers] == [None, "the prompt is too long", None]
    half = math.log(0.5)
    assert measured.likelihoods == (Likelihood(half, 1), Likelihood(0, 0), Likelihood(3 * half, 3))


def test_model_whose_batches_differ_answers_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [conversation(str(number), answer="") for number in range(12)]
    model = save_model(tmp_path / "model", "clock_model.py")
    (measured,) = measure([model], rows, Plan(seed=0, timed_rows=8))
    assert measured.batch_check == BatchCheck(8, tuple(each.row for each in measured.timings))
    assert "answers 8 of 8 rows otherwise in a batch" in " ".join(capsys.readouterr().err.split())


def test_killed_measurement_continues_where_it_was(tmp_path: Path) -> None:
    model = dataclasses.replace(save_model(tmp_path / "model", "clock_model.py"), key="clock")
    rows = [conversation(str(number), answer="") for number in range(12)]
    plan = Plan(timed_rows=8, key="killed")
    before: dict[int, Answer] = {}

    def interrupt(
        _: MeasuredModel, answers: Mapping[int, Answer], timings: Collection[Timing]
    ) -> None:
        if len(timings) == 8 and len(answers) > 8:
            before.update(answers)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        measure([model], rows, plan, interrupt)
    (measured,) = measure([model], rows, plan)
    assert len(before) == 9
    assert {number: measured.answers[number] for number in before} == before
    assert len({answer.text for answer in measured.answers}) == 12


def test_stored_answers_serve_other_rows_and_other_targets(tmp_path: Path) -> None:
    reference, other = (
        dataclasses.replace(save_model(tmp_path / name, "clock_model.py"), key=name)
        for name in ("reference", "other")
    )
    rows = [conversation(str(number), answer="") for number in range(4)]
    (first,) = measure([reference], rows[1:], Plan(timed_rows=0))
    again, _ = measure([reference, other], rows, Plan(timed_rows=2))
    assert again.answers[1:] == first.answers
    assert len(again.timings) == 2


def test_model_without_chat_signature_is_rejected(tmp_path: Path) -> None:
    signature = ModelSignature(Schema([ColSpec("double", "x"), ColSpec("double", "y")]))
    model = save_model(tmp_path / "model", "prompt_model.py", signature)
    with pytest.raises(UserError, match="its signature takes x, y, but messages"):
        measure([model], ROWS)
