"""A step whose tracking server fails: one message, soon, and what was made is there afterwards."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.pipeline import step, tracking_errors
from tests.fixtures.project import Workplace
from tests.fixtures.server import address as listening
from tests.fixtures.server import free_port

NOBODY_LISTENS = "http://someone:secret@127.0.0.1:9"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracking_errors.RETRIES, "0")


@contextmanager
def answering(status: int) -> Iterator[str]:
    """Yield the address of a server that answers everything with a status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _refusal(work: Callable[[step.Step], None], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one message of a step that fails by its tracking server."""
    assert step.run("fetch", work, []) == 1
    said = capsys.readouterr().err
    assert said.count("error:") == 1
    assert "Traceback" not in said
    assert "secret" not in said
    return said[said.index("error:") :]


def _never(_: step.Step) -> None:
    raise AssertionError("worked although there is no run")


def test_a_server_that_is_down(
    tracking_at: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    tracking_at(NOBODY_LISTENS)
    message = _refusal(_never, capsys)
    assert "http://127.0.0.1:9 does not answer ([Errno 111] Connection refused)" in message
    assert "run the same command again" in message


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "refuses (error code 401): set MLFLOW_TRACKING_TOKEN"),
        (403, "refuses (error code 403): set MLFLOW_TRACKING_TOKEN"),
        (429, "does not answer (too many 429 error responses)"),
        (503, "does not answer (too many 503 error responses)"),
    ],
)
def test_a_server_that_refuses(
    status: int,
    said: str,
    tracking_at: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with answering(status) as url:
        tracking_at(url)
        message = _refusal(_never, capsys)
        assert f"{url} {said}" in message


@pytest.mark.usefixtures("tracking")
def test_a_server_that_goes_away_midway(
    tracking_at: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def work(_: step.Step) -> None:
        tracking_at(NOBODY_LISTENS)
        mlflow.log_metric("seconds", 1.0)

    assert "does not answer" in _refusal(work, capsys)


@pytest.mark.usefixtures("tracking")
def test_another_fault_of_mlflow_is_not_the_servers(capsys: pytest.CaptureFixture[str]) -> None:
    def work(_: step.Step) -> None:
        MlflowClient().get_run("f" * 32)

    assert step.run("fetch", work, []) == 1
    assert "error: MlflowException" in capsys.readouterr().err


@pytest.mark.usefixtures("tracking")
def test_a_database_that_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def work(_: step.Step) -> None:
        (tmp_path / "mlflow.db").unlink()
        (tmp_path / "mlflow.db").mkdir()
        mlflow.log_metric("seconds", 1.0)

    message = _refusal(work, capsys)
    assert f"the tracking database sqlite:///{tmp_path}/mlflow.db cannot be used (" in message


def test_a_database_that_is_half_made(
    tracking_at: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As MLflow leaves it that is killed while it makes it: a table is there, no version is."""
    with closing(sqlite3.connect(tmp_path / "half.db")) as database:
        database.execute("CREATE TABLE logged_models (model_id TEXT)")
    tracking_at(f"sqlite:///{tmp_path}/half.db")

    message = _refusal(_never, capsys)
    assert "half.db is half-made (table logged_models already exists)" in message
    assert "Move it away if it is new" in message


def test_the_bound_is_half_a_minute() -> None:
    """Four more tries, after 0 or 2, 4, 8 and 16 seconds, and what a user sets comes first."""
    line = "import os, steps; print(os.environ['MLFLOW_HTTP_REQUEST_MAX_RETRIES'])"
    for given, tries in (({}, "4"), ({tracking_errors.RETRIES: "9"}, "9")):
        done = subprocess.run(
            [sys.executable, "-c", line], env=given, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == tries


@pytest.mark.long
def test_what_was_converted_is_there_when_the_server_is_back(tmp_path: Path) -> None:
    """A real server, killed while the step `convert` builds."""
    address = f"http://127.0.0.1:{free_port()}"
    place = Workplace(tmp_path, {"MLFLOW_TRACKING_URI": address, tracking_errors.RETRIES: "1"})

    with tracking_server(place, address):
        convert = subprocess.Popen(
            [sys.executable, "-m", "steps.convert"],
            cwd=tmp_path,
            env=place.environ(),
            stderr=subprocess.PIPE,
            text=True,
        )
        building = tmp_path / "home" / "building"
        while not any(building.glob("onnx-*/*")):
            with suppress(subprocess.TimeoutExpired):
                raise AssertionError(convert.wait(0.1))
    _, said = convert.communicate()
    assert convert.returncode == 1
    assert said.count("error:") == 1, said
    assert f"the tracking server {address} does not answer" in said
    assert "Traceback" not in said
    [entry] = (tmp_path / "home" / "onnx").iterdir()
    made = (entry / "manifest.json").stat().st_mtime_ns

    with tracking_server(place, address):
        done = place.step("convert")
        runs = mlflow.MlflowClient(address).search_runs(["0"])
    assert done.status == 0, done.errors
    assert (entry / "manifest.json").stat().st_mtime_ns == made
    assert sorted(run.info.status for run in runs) == ["FINISHED", "FINISHED", "KILLED"]


@contextmanager
def tracking_server(place: Workplace, address: str) -> Iterator[None]:
    """Serve a database of the place while the block runs, and then end as kill -9 ends it."""
    port = address.rpartition(":")[2]
    database = f"sqlite:///{place.folder}/server.db"
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--port", port, "--workers", "1"),
            *("--backend-store-uri", database),
            *("--artifacts-destination", str(place.folder / "kept")),
        ],
        cwd=place.folder,
        env=place.environ(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as server:
        try:
            listening(server)
            yield
        finally:
            os.killpg(server.pid, signal.SIGKILL)


@pytest.fixture
def tracking_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "home"))
    yield mlflow.set_tracking_uri
    mlflow.set_tracking_uri(before)
