"""Real MLflow models, loaded and asked in processes of their own."""

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pytest
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, Schema

from slmflow.datasets.rows import Row
from slmflow.errors import UserError
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, Likelihood
from slmflow.measurement.turns import measure
from tests.measurement.models.logged import PROMPT, saved

pytestmark = pytest.mark.usefixtures("tracking")


def asked(*said: str, answer: str) -> Row:
    """Return a row whose messages are the user's and the assistant's in turn."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)]
    return Row(messages, answer)


ROWS = [asked("one", answer="uno"), asked("one two three", answer="uno dos tres")]


def test_chat_model(tmp_path: Path) -> None:
    ballast = b"x" * 1_000_000_000
    (measured,) = measure([saved(tmp_path / "model", "chat_model.py")], ROWS)
    assert [answer.text for answer in measured.answers] == ["one", "one two three"]
    assert [answer.completion_tokens for answer in measured.answers] == [1, 3]
    assert [answer.prompt_tokens for answer in measured.answers] == [1, 3]
    assert all(answer.first_token_s and answer.latency_s > 0 for answer in measured.answers)
    half = math.log(0.5)
    assert measured.likelihoods == (Likelihood(half, 1), Likelihood(3 * half, 3))
    assert measured.load_s > 0
    # Not the memory of this process, the parent.
    assert measured.peak_rss_bytes is None or 10e6 < measured.peak_rss_bytes < len(ballast)


def test_prompt_model_has_no_counts_and_no_score(tmp_path: Path) -> None:
    (measured,) = measure([saved(tmp_path / "model", "prompt_model.py", PROMPT)], ROWS)
    assert [answer.text for answer in measured.answers] == ["one", "one two three"]
    for answer in measured.answers:
        assert answer.first_token_s is answer.prompt_tokens is answer.completion_tokens is None
    assert measured.likelihoods is None


def test_prompt_model_is_not_asked_what_a_prompt_cannot_hold(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", "prompt_model.py", PROMPT)
    with pytest.raises(
        UserError, match="measured: the model takes a prompt, but a row is a conversation of 3 mess"
    ):
        measure([model], [asked("one", "two", "three", answer="")])


@pytest.mark.parametrize(
    ("question", "reason"),
    [("crash", "the model model .*: ValueError: the parrot is tired"), ("die", "SIGKILL.*memory")],
)
def test_failure_is_named(tmp_path: Path, question: str, reason: str) -> None:
    model = saved(tmp_path / "model", "chat_model.py")
    with pytest.raises(UserError, match=reason):
        measure([model], [asked("one", answer="uno"), asked(question, answer="")])


def test_models_take_turns_and_change_their_order(tmp_path: Path) -> None:
    models = [saved(tmp_path / name, "clock_model.py") for name in ("first", "second")]
    rows = [asked(str(number), answer="") for number in range(20)]
    measured = measure(models, rows)
    assert [each.model for each in measured] == models
    asked_at = sorted(
        (int(answer.text), each.model.flavor) for each in measured for answer in each.answers
    )
    turns = [(name, len(list(rows))) for name, rows in groupby(name for _, name in asked_at)]
    assert turns == [("first", 8), ("second", 16), ("first", 8), ("second", 4), ("first", 4)]


def test_of_three_models_each_is_asked_at_each_place(tmp_path: Path) -> None:
    models = [saved(tmp_path / name, "clock_model.py") for name in ("a", "b", "c")]
    measured = measure(models, [asked(str(number), answer="") for number in range(0, 33)])
    places = [
        "".join(name for _, name in sorted((m.answers[row].text, m.model.flavor) for m in measured))
        for row in range(0, 33, 8)
    ]
    assert places == ["abc", "bca", "cab", "cba", "acb"]


def test_who_watches_is_told_each_turn_and_can_end_it(tmp_path: Path) -> None:
    seen: list[int] = []

    def watch(_: MeasuredModel, answers: Sequence[Answer]) -> None:
        seen.append(len(answers))
        if len(answers) == 16:
            raise InterruptedError

    rows = [asked(str(number), answer="") for number in range(20)]
    with pytest.raises(InterruptedError):
        measure([saved(tmp_path / "model", "clock_model.py")], rows, watch=watch)
    assert seen == [8, 16]


def test_an_answer_of_more_than_one_token_is_no_time_to_the_first(tmp_path: Path) -> None:
    """This one does not say how many tokens it gave, so nothing is known of its first one."""
    (measured,) = measure([saved(tmp_path / "model", "clock_model.py")], ROWS)
    assert [answer.first_token_s for answer in measured.answers] == [None, None]


def test_what_is_no_chat_model_is_refused(tmp_path: Path) -> None:
    signature = ModelSignature(Schema([ColSpec("double", "x"), ColSpec("double", "y")]))
    model = saved(tmp_path / "model", "prompt_model.py", signature)
    with pytest.raises(UserError, match="its signature takes x, y, where messages are"):
        measure([model], ROWS)
