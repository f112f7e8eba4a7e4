"""Rows that a model cannot answer, found before it is loaded."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from slmflow.config.compose import load
from slmflow.datasets import rows
from slmflow.errors import UserError
from slmflow.measurement import unanswerable_rows
from tests.fixtures.bundled_model import StepInputs

QUESTION = "What is the capital of France?"
LONG = "word " * 3000


def write_rows(folder: Path, *questions: str) -> Path:
    file = folder / "rows.jsonl"
    lines = [json.dumps({"question": question, "answer": "Paris"}) for question in questions]
    file.write_text("\n".join(lines))
    return file


@pytest.fixture
def find(weights: Path, tmp_path: Path) -> Callable[..., dict[int, str]]:
    """Return what is found among questions to the bundled model."""

    def find_in(*questions: str) -> dict[int, str]:
        config = load([f"evaluation.data={write_rows(tmp_path, *questions)}"])
        step = StepInputs(config, weights)
        return unanswerable_rows.find(step, rows.read(config))

    return find_in


def test_long_row_is_named_with_its_line(
    find: Callable[..., dict[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    problems = find(QUESTION, QUESTION, LONG)
    assert list(problems) == [2]
    assert "the model's context holds 512" in problems[2]
    warning = " ".join(capsys.readouterr().err.split())
    assert "1 of 3 rows cannot be answered and count as not answered: line 3: " in warning


def test_data_without_an_answerable_row_is_rejected(find: Callable[..., dict[int, str]]) -> None:
    with pytest.raises(UserError, match=r"no row can be answered: line 1: the prompt has [\d,]+ t"):
        find(LONG, LONG)
