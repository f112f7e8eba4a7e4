"""Answers of an earlier run, for a store that does not have them."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.config.compose import load
from slmflow.datasets.rows import Row
from slmflow.measurement.artifact import log_measurements
from slmflow.measurement.earlier_answers import EarlierAnswers
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, Likelihood, Measurement
from slmflow.measurement.stored_rows import StoredRows
from slmflow.pipeline.keys import answers_key
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run

ROWS = [Row([{"role": "user", "content": name}], name) for name in ("one", "two", "three")]
MODEL = MeasuredModel("genai", "models:/m-1", "m-1", 1, key="1" * 64)
LIKELIHOODS = tuple(Likelihood(-float(n), n) for n in range(1, 4))
ANSWERS = (Answer("1", 1, 1), Answer("2", 1, 1), Answer("", None, None, error="too long"))
MEASURED = Measurement(MODEL, 1.0, 1, ANSWERS, LIKELIHOODS, (None,) * 3)


@pytest.fixture
def earlier(tracking: str) -> Iterator[EarlierAnswers]:
    """The answers in a finished run of measure."""

    def work(step: Step) -> object:
        return log_measurements(step, [MEASURED])

    assert run("measure", work, []) == 0
    yield EarlierAnswers([answers_key(load([]))], "0")


def test_empty_store_takes_the_answers_of_an_earlier_run(
    earlier: EarlierAnswers, tmp_path: Path
) -> None:
    assert earlier.of(MODEL, 3) == MEASURED
    stored = StoredRows(MODEL, ROWS, seed=0)
    stored.add(MEASURED, range(3))
    again = StoredRows(MODEL, ROWS, seed=0)
    assert again.answers == stored.answers == dict(enumerate(ANSWERS))
    assert again.scores == stored.scores == {n: (LIKELIHOODS[n], None) for n in (0, 1)}
    assert again.can_score


def test_stored_answers_come_first(tracking: str) -> None:
    stored = StoredRows(MODEL, ROWS, seed=0)
    stored.put_answer(0, Answer("own", 1, 1))
    stored.add(MEASURED, range(2))
    assert [stored.answers[n].text for n in (0, 1)] == ["own", "2"]


def test_answers_of_others_do_not_count(earlier: EarlierAnswers) -> None:
    """Of another model, of one without a key, to other rows, or of an unfinished run."""
    other = MeasuredModel("genai", "models:/m-1", "m-1", 1, key="2" * 64)
    unknown = MeasuredModel("genai", "models:/m-1", "m-1", 1)
    assert earlier.of(other, 3) is earlier.of(unknown, 3) is earlier.of(MODEL, 2) is None
    limited = answers_key(load(["evaluation.limit=3"]))
    assert EarlierAnswers([limited], "0").of(MODEL, 3) is None
    MlflowClient().set_terminated(mlflow.last_active_run().info.run_id, "FAILED")
    assert EarlierAnswers([answers_key(load([]))], "0").of(MODEL, 3) is None
