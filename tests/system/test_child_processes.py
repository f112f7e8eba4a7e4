"""What a process of our own is started with."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest

from slmflow.system import child_processes

CREDENTIALS = {"DATABRICKS_HOST", "DATABRICKS_TOKEN"}


class _Workspace(BaseHTTPRequestHandler):
    """A workspace that has nothing at any address."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A workspace that this process has the credentials of, and its environment does not."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Workspace) as server:
        threading.Thread(target=server.serve_forever).start()
        host = f"http://127.0.0.1:{server.server_port}"
        (tmp_path / "profiles").write_text(f"[DEFAULT]\nhost = {host}\ntoken = secret\n")
        monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "profiles"))
        for name in CREDENTIALS:
            monkeypatch.delenv(name, raising=False)
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri("databricks")
        yield host
        mlflow.set_tracking_uri(before)
        server.shutdown()


def test_a_child_in_a_databricks_runtime_reaches_the_workspace(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "client.2.5")

    environment = child_processes.environment()

    assert environment["MLFLOW_TRACKING_URI"] == "databricks"
    assert (environment["DATABRICKS_HOST"], environment["DATABRICKS_TOKEN"]) == (host, "secret")


def test_elsewhere_a_child_finds_its_credentials_itself(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABRICKS_RUNTIME_VERSION", raising=False)

    assert not CREDENTIALS & child_processes.environment().keys()


def test_without_credentials_a_child_is_started_all_the_same(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "client.2.5")
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", "/nowhere")

    assert not CREDENTIALS & child_processes.environment(OWN="1").keys()
    assert child_processes.environment(OWN="1")["OWN"] == "1"
