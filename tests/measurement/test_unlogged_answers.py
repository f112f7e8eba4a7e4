"""Answers that the tracking server does not take: none is asked for twice."""

import json
from pathlib import Path

import mlflow
import pytest

from slmflow.flavors.genai_result import GenaiModel
from slmflow.measurement import unlogged_answers
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, Measurement
from slmflow.pipeline import store
from slmflow.pipeline.step import run
from steps.measure import measure
from tests.measurement.models.logged import log

KEY = "0" * 64


@pytest.fixture
def artifacts(tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tracking server keeps its files."""
    folder = tmp_path / "artifacts"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", mlflow.create_experiment("here", folder.as_uri()))
    return folder


def logged(code: str) -> str:
    with mlflow.start_run():
        return str(log(GenaiModel, code).model_uri)


def kept() -> list[Path]:
    return list((store.home() / "answers").glob("*/answers.json"))


def test_answers_wait_in_the_store_until_they_are_logged(artifacts: Path) -> None:
    rows = artifacts.with_name("rows.jsonl")
    rows.write_text(json.dumps({"question": str(artifacts), "answer": "done"}))
    asked = [f"evaluation.model_uri={logged('hiding_model.py')}", f"evaluation.data={rows}"]

    assert run("measure", measure, asked) == 1
    [waiting] = kept()
    told = json.loads(waiting.read_bytes())
    artifacts.unlink()
    artifacts.with_suffix(".hidden").rename(artifacts)

    assert run("measure", measure, asked) == 0  # the model would hide the folder once more
    assert kept() == []
    run_id = mlflow.last_active_run().info.run_id
    assert mlflow.artifacts.load_dict(f"runs:/{run_id}/measurements.json") == told


@pytest.mark.usefixtures("tracking")
def test_answers_of_other_models_are_dropped() -> None:
    told = (Answer("one two", 0.5, 0.25, 2, None),)
    mine = Measurement(MeasuredModel("genai", "models:/m-1", "m-1", 5), 0.1, None, told, None)
    unlogged_answers.keep(KEY, [mine])
    assert unlogged_answers.found(KEY, [mine.model]) == (mine,)
    assert unlogged_answers.found(KEY, [MeasuredModel("genai", "models:/m-2", "m-2", 5)]) is None
    assert unlogged_answers.found(KEY, [mine.model]) is None


def test_nothing_is_kept_where_the_store_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "file"))
    unlogged_answers.keep(KEY, [])
    assert unlogged_answers.found(KEY, []) is None
    unlogged_answers.drop(KEY)
