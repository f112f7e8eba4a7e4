"""Answers and scores that the store keeps of a model."""

from pathlib import Path

import pytest

from slmflow.config.compose import load
from slmflow.datasets.rows import Row
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, Likelihood
from slmflow.measurement.stored_rows import StoredRows
from slmflow.pipeline import keys
from slmflow.pipeline.results import GenaiModel

ROWS = [Row([{"role": "user", "content": "What is the capital of France?"}], "Paris")]


def test_sampling_options_do_not_change_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path))
    cold = StoredRows(MeasuredModel("genai", "m", "", 1, key="1", scores_key="s"), ROWS, 0)
    cold.put_answer(0, Answer("A", None, None))
    cold.put_score(0, (Likelihood(-1.0, 1), None))

    hot = StoredRows(MeasuredModel("genai", "m", "", 1, key="2", scores_key="s"), ROWS, 0)
    other = StoredRows(MeasuredModel("genai", "m", "", 1, key="2", scores_key="t"), ROWS, 0)

    assert (hot.answers, hot.scores) == ({}, {0: (Likelihood(-1.0, 1), None)})
    assert (other.answers, other.scores) == ({}, {})


@pytest.mark.parametrize(
    ("override", "is_same"),
    [
        ("generation.temperature=0.7", True),
        ("generation.top_p=0.9", True),
        ("generation.template.enable_thinking=true", False),
        ("target=cpu_int8", False),
    ],
)
def test_scores_key_is_that_of_the_model_without_sampling(override: str, is_same: bool) -> None:
    plain, changed = load([]), load([override])
    same = keys.scores_key(GenaiModel, plain) == keys.scores_key(GenaiModel, changed)
    assert same == is_same
    assert keys.key_of(GenaiModel, plain) != keys.key_of(GenaiModel, changed)


def test_records_of_another_form_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path))
    model = MeasuredModel("genai", "m", "", 1, key="1")
    StoredRows(model, ROWS, 0).put_answer(0, Answer("A", None, None))
    [file] = (tmp_path / "answers").iterdir()
    with file.open("a") as journal:
        journal.write('\n{"unknown": 1}\n')

    assert StoredRows(model, ROWS, 0).answers == {0: Answer("A", None, None)}
