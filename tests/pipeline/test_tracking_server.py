"""Servers and databases that cannot be used: the cause and the cure, before any work."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.errors import UserError
from slmflow.pipeline import step_runner, tracking_errors, tracking_server
from tests.fixtures.server import serving_in_thread


@contextmanager
def _server(answer: bytes) -> Iterator[str]:
    """Yield the URL of a server that answers every request with this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    with serving_in_thread(Handler) as url:
        mlflow.set_tracking_uri(url)
        yield url


@pytest.mark.usefixtures("tracking")
def test_older_server_is_named_with_both_versions() -> None:
    with _server(b"2.22.5") as url, pytest.raises(UserError) as raised:
        tracking_server.check()
    message = str(raised.value)
    assert f"{url} is MLflow 2.22.5, and this client MLflow {mlflow.__version__}" in message
    assert "a server of 3.0 or later" in message


@pytest.mark.usefixtures("tracking")
@pytest.mark.parametrize("answer", [b"3.0.1", b"3.17.2", b"4.1.0rc1", b"<!doctype html>", b""])
def test_other_server_is_used(answer: bytes) -> None:
    with _server(answer):
        tracking_server.check()


def test_relative_database_becomes_absolute_for_other_steps(
    tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    tracking_server.check()
    assert mlflow.get_tracking_uri() == os.environ["MLFLOW_TRACKING_URI"] == tracking


def _message(capsys: pytest.CaptureFixture[str]) -> str:
    assert step_runner.run("fetch", lambda _: None, []) == 1
    output = capsys.readouterr().err
    assert output.count("error:") == 1
    return output[output.index("error:") :]


@pytest.mark.usefixtures("tracking")
def test_relative_database_of_another_folder_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    mlflow.set_tracking_uri("sqlite:///other.db")
    message = _message(capsys)
    assert f"other.db in its own folder, and the step looks for it in {tmp_path}" in message
    assert "export MLFLOW_TRACKING_URI=sqlite:///$PWD/other.db" in message
    assert not (tmp_path / "other.db").exists()


def test_deleted_experiment_is_restored_or_replaced(
    tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = mlflow.create_experiment("gone")
    MlflowClient().delete_experiment(experiment)
    error = _start_error(experiment)
    assert f"mlflow experiments restore --experiment-id {experiment}" in error
    assert "MLFLOW_TRACKING_URI" not in error
    assert "Name another experiment with --experiment-name" in _start_error("77")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "77")
    assert "Name another experiment with --experiment-name" in _start_error(None)


def _start_error(experiment: str | None) -> str:
    """Return what is shown if no run can start in an experiment."""
    with pytest.raises(Exception) as raised:
        mlflow.start_run(experiment_id=experiment)
    return str(tracking_errors.server_error(raised.value))
