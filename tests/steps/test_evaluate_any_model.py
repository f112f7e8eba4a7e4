"""`evaluation.model_uri`: a model that this project did not make."""

from pathlib import Path
from typing import Any

import mlflow
import pytest

from slmflow.config import compose as configs
from slmflow.pipeline.keys import key_of
from slmflow.pipeline.results import Measurements
from slmflow.pipeline.step import Step, run
from steps.evaluate import evaluate
from steps.measure import measure
from tests.measurement.models.logged import FOLDER


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.csv"
    file.write_text("question,answer\nParis,The capital is Paris.\nRome,It is Rome.\n")
    return file


@pytest.fixture
def ensured(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """What evaluate asks for besides the measurements, which are really made."""
    others: list[type] = []

    def ensure(step: Step, kind: Any) -> Any:
        if kind is Measurements:
            return measure(step)
        others.append(kind)
        return None

    monkeypatch.setattr(Step, "ensure", ensure)
    return others


def log(alias: str) -> str:
    """Log and register the model; return its address."""
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


def test_a_model_of_mlflows_own_kind(tracking: str, rows: Path, ensured: list[type]) -> None:
    address = log("best")
    arguments = [f"evaluation.data={rows}", f"evaluation.model_uri={address}"]
    assert run("evaluate", evaluate, arguments) == 0
    assert ensured == []

    [found] = mlflow.search_runs(
        filter_string="tags.`slmflow.step` = 'evaluate'", output_format="list"
    )
    assert found.data.metrics["herald.exact_match"] == 0.5
    assert found.data.metrics["herald.token_f1"] == pytest.approx((1 + 2 / 3) / 2)
    table = mlflow.artifacts.load_dict(f"runs:/{found.info.run_id}/comparison.json")
    [row] = [dict(zip(table["columns"], each, strict=True)) for each in table["data"]]
    assert (row["flavor"], row["target"], row["model_uri"]) == ("herald", None, address)
    assert row["latency_ms_p50"] > 0
    assert row["perplexity"] is row["ttft_ms_p50"] is row["agreement"] is None
    page = mlflow.artifacts.load_text(f"runs:/{found.info.run_id}/comparison.md")
    assert page.startswith(f"# {address}\n")
    assert f"Asked: rows {rows}" in page.replace("\\", "")
    assert "agreement" not in page


def test_an_alias_counts_by_the_model_it_points_to(tracking: str) -> None:
    def key() -> str:
        return key_of(Measurements, configs.load([f"evaluation.model_uri={address}"]))

    address = log("best")
    first = key()
    assert first == key()
    log("best")
    assert key() != first


def test_an_address_without_a_model_is_refused(
    tracking: str, rows: Path, ensured: list[type], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"evaluation.data={rows}", "evaluation.model_uri=models:/none@best"]
    assert run("evaluate", evaluate, arguments) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "evaluation.model_uri='models:/none@best': no model can be read there" in shown
    assert shown.count("error:") == 1
