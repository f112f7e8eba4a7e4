"""Measurements that the tracking server did not accept."""

import json
from pathlib import Path

import mlflow
import pytest

from slmflow.measurement import unlogged_measurements
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, Measurement
from slmflow.pipeline import store
from slmflow.pipeline.results import GenaiModel
from slmflow.pipeline.step import run
from steps.measure import measure
from tests.measurement.models.logged import log_model

KEY = "0" * 64


@pytest.fixture
def artifacts(tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The artifact folder of the tracking server."""
    folder = tmp_path / "artifacts"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", mlflow.create_experiment("here", folder.as_uri()))
    return folder


def log(code: str) -> str:
    with mlflow.start_run():
        return str(log_model(GenaiModel, code).model_uri)


def stored() -> list[Path]:
    return list((store.home() / "answers").glob("*/answers.json"))


def test_unlogged_answers_are_logged_by_the_next_run(artifacts: Path) -> None:
    rows = artifacts.with_name("rows.jsonl")
    rows.write_text(json.dumps({"question": str(artifacts), "answer": "done"}))
    arguments = [f"evaluation.model_uri={log('hiding_model.py')}", f"evaluation.data={rows}"]

    assert run("measure", measure, arguments) == 1
    [entry] = stored()
    answers = json.loads(entry.read_bytes())
    artifacts.unlink()
    artifacts.with_suffix(".hidden").rename(artifacts)

    assert run("measure", measure, arguments) == 0  # measuring again would hide the folder again
    assert stored() == []
    run_id = mlflow.last_active_run().info.run_id
    assert mlflow.artifacts.load_dict(f"runs:/{run_id}/measurements.json") == answers


@pytest.mark.usefixtures("tracking")
def test_measurements_of_other_models_are_removed() -> None:
    model, other = (MeasuredModel("genai", f"models:/m-{n}", f"m-{n}", 5) for n in (1, 2))
    measurement = Measurement(model, 0.1, None, (Answer("one two", 0.5, 0.25, 2, None),), None)
    unlogged_measurements.save(KEY, [measurement])
    assert unlogged_measurements.load(KEY, [model]) == (measurement,)
    assert unlogged_measurements.load(KEY, [other]) is None
    assert unlogged_measurements.load(KEY, [model]) is None


def test_unwritable_store_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "file"))
    unlogged_measurements.save(KEY, [])
    assert unlogged_measurements.load(KEY, []) is None
    unlogged_measurements.remove(KEY)
