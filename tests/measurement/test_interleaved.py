"""Real MLflow models, measured in worker processes."""

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pytest
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, Schema

from slmflow.datasets.rows import Row
from slmflow.errors import UserError
from slmflow.measurement.interleaved import measure
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, Likelihood
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
    assert all(answer.first_token_s and answer.latency_s > 0 for answer in measured.answers)
    half = math.log(0.5)
    assert measured.likelihoods == (Likelihood(half, 1), Likelihood(3 * half, 3))
    assert measured.load_s > 0
    # Excludes the memory of this parent process.
    assert measured.peak_rss_bytes is None or 10e6 < measured.peak_rss_bytes < len(ballast)


def test_prompt_model_has_no_token_counts_or_likelihoods(tmp_path: Path) -> None:
    (measured,) = measure([save_model(tmp_path / "model", "prompt_model.py", PROMPT)], ROWS)
    assert [answer.text for answer in measured.answers] == ["one", "one two three"]
    for answer in measured.answers:
        assert answer.first_token_s is answer.prompt_tokens is answer.completion_tokens is None
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
    rejected = measured.answers[1]
    assert rejected.latency_s is rejected.first_token_s is rejected.completion_tokens is None
    half = math.log(0.5)
    assert measured.likelihoods == (Likelihood(half, 1), Likelihood(0, 0), Likelihood(3 * half, 3))
    warning = " ".join(capsys.readouterr().err.split())
    assert f"rejected 1 of 3 rows, which count as wrong answers: row 2: {error}" in warning


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
    assert {answer.first_token_s for each in measured for answer in each.answers} == {None}
    requests = sorted(
        (int(answer.text), each.model.flavor) for each in measured for answer in each.answers
    )
    turns = [(name, len(list(rows))) for name, rows in groupby(name for _, name in requests)]
    assert turns == [("first", 8), ("second", 16), ("first", 8), ("second", 4), ("first", 4)]


def test_three_models_take_every_position(tmp_path: Path) -> None:
    models = [save_model(tmp_path / name, "clock_model.py") for name in ("a", "b", "c")]
    measured = measure(models, [conversation(str(number), answer="") for number in range(33)])
    orders = [
        "".join(name for _, name in sorted((m.answers[row].text, m.model.flavor) for m in measured))
        for row in range(0, 33, 8)
    ]
    assert orders == ["abc", "bca", "cab", "cba", "acb"]


def test_turn_callback_can_stop_the_measurement(tmp_path: Path) -> None:
    seen: list[int] = []

    def stop_after_two_turns(_: MeasuredModel, answers: Sequence[Answer]) -> None:
        seen.append(len(answers))
        if len(answers) == 16:
            raise InterruptedError

    rows = [conversation(str(number), answer="") for number in range(20)]
    with pytest.raises(InterruptedError):
        measure(
            [save_model(tmp_path / "model", "clock_model.py")], rows, on_turn=stop_after_two_turns
        )
    assert seen == [8, 16]


def test_model_without_chat_signature_is_rejected(tmp_path: Path) -> None:
    signature = ModelSignature(Schema([ColSpec("double", "x"), ColSpec("double", "y")]))
    model = save_model(tmp_path / "model", "prompt_model.py", signature)
    with pytest.raises(UserError, match="its signature takes x, y, but messages"):
        measure([model], ROWS)
