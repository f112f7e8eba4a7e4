"""`evaluation.model_uri`: a model from outside slmflow."""

from pathlib import Path
from typing import Any

import mlflow
import pytest

from slmflow.config import compose as configs
from slmflow.pipeline.keys import key_of
from slmflow.pipeline.results import Measurements
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run
from steps.evaluate import evaluate
from steps.measure import measure
from tests.fixtures.tracking import read_table
from tests.measurement.models.logged import FOLDER
from tests.registry.finished_runs import newest_run
from tests.steps.conftest import ReadErrors


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.csv"
    file.write_text("question,answer\nParis,The capital is Paris.\nRome,It is Rome.\n")
    return file


@pytest.fixture
def ensured(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """The results that evaluate ensures besides the measurements, which are real."""
    others: list[type] = []

    def ensure(step: Step, kind: Any) -> Any:
        if kind is Measurements:
            return measure(step)
        others.append(kind)
        return None

    monkeypatch.setattr(Step, "ensure", ensure)
    return others


def register(alias: str) -> str:
    """Log and register the model; return its URI."""
    with mlflow.start_run():
        mlflow.pyfunc.log_model(
            name="herald",
            python_model=str(FOLDER / "mlflow_chat_model.py"),
            pip_requirements=["mlflow"],
            registered_model_name="mine",
        )
    client = mlflow.MlflowClient()
    newest = max(int(each.version) for each in client.search_model_versions("name='mine'"))
    client.set_registered_model_alias("mine", alias, str(newest))
    return f"models:/mine@{alias}"


def test_mlflow_chat_model_is_evaluated(tracking: str, rows: Path, ensured: list[type]) -> None:
    uri = register("best")
    arguments = [f"evaluation.data={rows}", f"evaluation.model_uri={uri}"]
    assert run("evaluate", evaluate, arguments) == 0
    assert ensured == []

    evaluation = newest_run("evaluate")
    assert evaluation.data.metrics["herald.exact_match"] == 0.5
    assert evaluation.data.metrics["herald.token_f1"] == pytest.approx((1 + 2 / 3) / 2)
    [row] = read_table(evaluation.info.run_id)
    assert (row["flavor"], row["target"], row["model_uri"]) == ("herald", None, uri)
    assert row["latency_ms_p50"] > 0
    assert row["perplexity"] is row["ttft_ms_p50"] is row["agreement"] is None
    page = mlflow.artifacts.load_text(f"runs:/{evaluation.info.run_id}/comparison.md")
    assert page.startswith(f"# {uri}\n\nNothing is compared: {uri} is evaluated alone.\n")
    assert f"Settings: data {rows}" in page.replace("\\", "")
    assert "agreement" not in page


def test_key_follows_the_model_of_an_alias(tracking: str) -> None:
    def key() -> str:
        return key_of(Measurements, configs.load([f"evaluation.model_uri={uri}"]))

    uri = register("best")
    first = key()
    assert first == key()
    register("best")
    assert key() != first


def test_uri_without_a_model_is_rejected(
    tracking: str, rows: Path, ensured: list[type], printed: ReadErrors
) -> None:
    arguments = [f"evaluation.data={rows}", "evaluation.model_uri=models:/none@best"]
    assert run("evaluate", evaluate, arguments) == 2
    errors = printed()
    assert "evaluation.model_uri='models:/none@best': no model can be read from there" in errors
    assert errors.count("error:") == 1
