"""Verify a model on a remote server: its files are downloaded and deleted afterwards."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from slmflow.config import compose as configs
from slmflow.pipeline import step_runner
from steps.log_genai import log_genai
from steps.verify import verify
from tests.fixtures.bundled_model import FP32, StepInputs
from tests.fixtures.project import Sandbox
from tests.fixtures.server import run_server


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Start a tracking server that serves artifacts; yield the folder in which it stores them.

    The database is new, because the default experiment of an existing one has another location.
    """
    folder, database = tmp_path / "artifacts", f"sqlite:///{tmp_path / 'server.db'}"
    command = f"mlflow server --backend-store-uri {database} --artifacts-destination {folder}"
    with run_server(Sandbox(tmp_path), f"{command} --host 127.0.0.1 --workers 1") as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        mlflow.set_tracking_uri(url)
        yield folder


@pytest.mark.long
def test_remote_model_is_verified_in_a_temporary_copy(
    artifacts: Path, weights: Path, onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mlflow.start_run():
        logged = log_genai(StepInputs(configs.load(FP32), weights, onnx))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    arguments = (f"verify.model_uri={logged.model_uri}",)

    assert step_runner.run("verify", verify, arguments) == 0
    [altered] = artifacts.rglob("model.onnx")
    altered.write_bytes(altered.read_bytes() + b"\0")
    assert step_runner.run("verify", verify, arguments) == 1

    run = mlflow.search_runs(output_format="list", order_by=["attributes.start_time DESC"])[0]
    path = f"artifacts/{onnx.name}/model.onnx"
    assert f"changed: '{path}'" in run.data.tags["slmflow.error"]
    assert list(scratch.iterdir()) == []
