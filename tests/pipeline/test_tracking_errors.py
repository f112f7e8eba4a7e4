"""Failures of the tracking server: one message, early, and no loss of finished work."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.pipeline import step_runner, tracking_errors
from slmflow.pipeline.step import Step
from tests.fixtures.console import read_only_error
from tests.fixtures.project import Sandbox
from tests.fixtures.server import free_port, run_server, server_with_status

CLOSED_PORT = "http://someone:secret@127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracking_errors.RETRIES, "0")


def _failure_message(work: Callable[[Step], None], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the only message of a step that fails because of its tracking server."""
    assert step_runner.run("fetch", work, []) == 1
    return read_only_error(capsys)


def _fail_if_called(_: Step) -> None:
    raise AssertionError("called although there is no run")


def test_server_that_is_down(
    tracking_at: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    tracking_at(CLOSED_PORT)
    message = _failure_message(_fail_if_called, capsys)
    assert "http://127.0.0.1:9 does not answer ([Errno 111] Connection refused)" in message
    assert "run the same command again" in message


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, "denies access (error code 401): set MLFLOW_TRACKING_TOKEN"),
        (403, "denies access (error code 403): set MLFLOW_TRACKING_TOKEN"),
        (429, "does not answer (too many 429 error responses)"),
        (503, "does not answer (too many 503 error responses)"),
    ],
)
def test_server_error_is_explained(
    status: int,
    expected: str,
    tracking_at: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with server_with_status(status) as url:
        tracking_at(url)
        message = _failure_message(_fail_if_called, capsys)
        assert f"{url} {expected}" in message


@pytest.mark.usefixtures("tracking")
def test_server_that_fails_during_the_work(
    tracking_at: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def work(_: Step) -> None:
        tracking_at(CLOSED_PORT)
        mlflow.log_metric("seconds", 1.0)

    assert "does not answer" in _failure_message(work, capsys)


@pytest.mark.usefixtures("tracking")
def test_other_mlflow_error_is_no_server_error(capsys: pytest.CaptureFixture[str]) -> None:
    def work(_: Step) -> None:
        MlflowClient().get_run("f" * 32)

    assert step_runner.run("fetch", work, []) == 1
    assert "error: MlflowException" in capsys.readouterr().err


@pytest.mark.usefixtures("tracking")
def test_missing_database_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def work(_: Step) -> None:
        (tmp_path / "mlflow.db").unlink()
        (tmp_path / "mlflow.db").mkdir()
        mlflow.log_metric("seconds", 1.0)

    message = _failure_message(work, capsys)
    assert f"the tracking database sqlite:///{tmp_path}/mlflow.db cannot be used (" in message


def test_incomplete_database_is_explained(
    tracking_at: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a kill of MLflow while it creates the database: a table, but no version."""
    with closing(sqlite3.connect(tmp_path / "partial.db")) as database:
        database.execute("CREATE TABLE logged_models (model_id TEXT)")
    tracking_at(f"sqlite:///{tmp_path}/partial.db")

    message = _failure_message(_fail_if_called, capsys)
    assert "partial.db is incomplete (table logged_models already exists)" in message
    assert "Move it away if it is new" in message


@pytest.mark.long
def test_conversion_survives_a_server_failure(tmp_path: Path) -> None:
    """A real server, killed during the step `convert`."""
    port = str(free_port())
    address = f"http://127.0.0.1:{port}"
    sandbox = Sandbox(tmp_path, {"MLFLOW_TRACKING_URI": address, tracking_errors.RETRIES: "1"})
    folders = (
        f"--backend-store-uri sqlite:///{tmp_path}/db --artifacts-destination {tmp_path}/files"
    )
    command = f"mlflow server --workers 1 {folders}"
    server = partial(run_server, sandbox, command, ("--port", port), signal.SIGKILL)

    with server():
        convert = subprocess.Popen(
            [sys.executable, "-m", "steps.convert"],
            cwd=tmp_path,
            env=sandbox.environ(),
            stderr=subprocess.PIPE,
            text=True,
        )
        building = tmp_path / "home" / "building"
        while not any(building.glob("onnx-*/*")):
            with suppress(subprocess.TimeoutExpired):
                raise AssertionError(convert.wait(0.1))
    _, output = convert.communicate()
    assert convert.returncode == 1
    assert output.count("error:") == 1, output
    assert f"the tracking server {address} does not answer" in output
    assert "Traceback" not in output
    [entry] = (tmp_path / "home" / "onnx").iterdir()
    made = (entry / "manifest.json").stat().st_mtime_ns

    with server():
        done = sandbox.run_step("convert")
        runs = mlflow.MlflowClient(address).search_runs(["0"])
    assert done.status == 0, done.errors
    assert (entry / "manifest.json").stat().st_mtime_ns == made
    assert sorted(run.info.status for run in runs) == ["FINISHED", "FINISHED", "KILLED"]


@pytest.fixture
def tracking_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "home"))
    yield mlflow.set_tracking_uri
    mlflow.set_tracking_uri(before)
