"""The environment of child processes."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from slmflow.system import child_processes
from tests.fixtures.server import server_with_status

CREDENTIALS = {"DATABRICKS_HOST", "DATABRICKS_TOKEN"}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A workspace with credentials in a file, not in the environment."""
    with server_with_status(404) as host:
        (tmp_path / "profiles").write_text(f"[DEFAULT]\nhost = {host}\ntoken = secret\n")
        monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "profiles"))
        for name in CREDENTIALS:
            monkeypatch.delenv(name, raising=False)
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri("databricks")
        yield host
        mlflow.set_tracking_uri(before)


def test_child_in_databricks_gets_credentials(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "client.2.5")

    environment = child_processes.environment()

    assert environment["MLFLOW_TRACKING_URI"] == "databricks"
    assert (environment["DATABRICKS_HOST"], environment["DATABRICKS_TOKEN"]) == (host, "secret")


def test_child_elsewhere_gets_no_credentials(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABRICKS_RUNTIME_VERSION", raising=False)

    assert not CREDENTIALS & child_processes.environment().keys()


def test_missing_credentials_are_no_error(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "client.2.5")
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", "/nowhere")

    assert not CREDENTIALS & child_processes.environment(OWN="1").keys()
    assert child_processes.environment(OWN="1")["OWN"] == "1"
