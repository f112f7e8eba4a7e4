"""A second machine takes the answers of the first, and measures its own timings."""

import json
from pathlib import Path
from typing import Any

import mlflow
import pytest

from slmflow.pipeline import runs
from slmflow.pipeline.results import GenaiModel
from slmflow.pipeline.step_runner import run
from steps.measure import measure
from tests.fixtures.machines import CPU, other_machine
from tests.measurement.models.logged import log_model

pytestmark = pytest.mark.long  # each measurement starts a process


@pytest.fixture
def arguments(tracking: str, tmp_path: Path) -> list[str]:
    rows = [{"question": str(number), "answer": "now"} for number in range(3)]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    with mlflow.start_run():
        uri = log_model(GenaiModel, "clock_model.py").model_uri  # answers with the time
    return [f"evaluation.data={file}", f"evaluation.model_uri={uri}", "measurement.timed_rows=1"]


def measured(*arguments: str) -> tuple[dict[str, Any], mlflow.entities.Run]:
    """Run measure; return the measurement of the model, and the run."""
    assert run("measure", measure, arguments) == 0
    last = mlflow.last_active_run()
    [model] = mlflow.artifacts.load_dict(f"runs:/{last.info.run_id}/measurements.json")["models"]
    return model, last


def test_answers_are_reused_and_timings_are_not(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, first_run = measured(*arguments)
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "empty"))
    with other_machine(tmp_path):
        second, second_run = measured(*arguments)

    assert second["answers"] == first["answers"]
    assert second["timings"] != first["timings"]
    assert len(second["timings"]) == 1
    assert second_run.data.tags[runs.KEY] != first_run.data.tags[runs.KEY]
    assert second_run.data.params["machine.cpu"] == CPU
    assert f"run {first_run.info.run_id} has the answers to the same rows" in " ".join(
        capsys.readouterr().err.split()
    )


def test_fresh_measurement_answers_anew(arguments: list[str]) -> None:
    first, _ = measured(*arguments)
    again, _ = measured(*arguments, "measurement.again=true")
    assert again["answers"] == first["answers"]
    assert again["timings"] != first["timings"]
    fresh, _ = measured(*arguments, "fresh=[measure]")
    assert all(a != b for a, b in zip(fresh["answers"], first["answers"], strict=True))
    last, _ = measured(*arguments)
    assert last["answers"] == fresh["answers"]
