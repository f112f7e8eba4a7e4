"""Timings and answers that the tracking server did not accept."""

import json
from pathlib import Path

import mlflow
import pytest

from slmflow.measurement.journal import model_names
from slmflow.pipeline import store
from slmflow.pipeline.results import GenaiModel
from slmflow.pipeline.step_runner import run
from steps.measure import measure
from tests.measurement.models.logged import log_model


@pytest.fixture
def artifacts(tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The artifact folder of the tracking server."""
    folder = tmp_path / "artifacts"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", mlflow.create_experiment("here", folder.as_uri()))
    return folder


def log(code: str) -> str:
    with mlflow.start_run():
        return str(log_model(GenaiModel, code).model_uri)


def timings() -> list[Path]:
    return list((store.home() / "timings").glob("*.jsonl"))


def test_unlogged_timings_are_logged_by_the_next_run(artifacts: Path) -> None:
    rows = artifacts.with_name("rows.jsonl")
    rows.write_text(json.dumps({"question": str(artifacts), "answer": "done"}))
    model_uri = log("hiding_model.py")
    arguments = [f"evaluation.model_uri={model_uri}", f"evaluation.data={rows}"]

    assert run("measure", measure, arguments) == 1
    [entry] = timings()
    assert model_names(entry) == [model_uri]
    [record] = [json.loads(line) for line in entry.read_bytes().split(b"\n") if b"timing" in line]
    artifacts.unlink()
    artifacts.with_suffix(".hidden").rename(artifacts)

    assert run("measure", measure, arguments) == 0  # measuring again would hide the folder again
    assert timings() == []
    run_id = mlflow.last_active_run().info.run_id
    [model] = mlflow.artifacts.load_dict(f"runs:/{run_id}/measurements.json")["models"]
    assert model["timings"] == [record["timing"]]
