"""Failures of artifact stores and databases: one message that names the store, not the server."""

from http.server import BaseHTTPRequestHandler
from importlib.util import find_spec
from pathlib import Path

import mlflow
import pytest

from slmflow.pipeline import step_runner, tracking_errors
from slmflow.pipeline.step import Step
from tests.fixtures.console import read_only_error
from tests.fixtures.server import server_with_status, serving_in_thread


@pytest.fixture(autouse=True)
def no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracking_errors.RETRIES, "0")


def _message(capsys: pytest.CaptureFixture[str], store: str | None = None) -> str:
    """Return the only message of a step that cannot use its database or this artifact store."""
    experiment = mlflow.create_experiment("shared", artifact_location=store) if store else None
    assert step_runner.run("fetch", _fail_if_called, [], new_run={"experiment_id": experiment}) == 1
    return read_only_error(capsys)


def _fail_if_called(_: Step) -> None:
    raise AssertionError("called although its run cannot store anything")


@pytest.mark.usefixtures("tracking")
@pytest.mark.parametrize(
    ("uri", "package", "file"),
    [
        ("s3://team/mlflow", "boto3", "s3"),
        ("gs://team/mlflow", "google.cloud", "gcs"),
        ("wasbs://team@account.blob.core.windows.net/mlflow", "azure.storage", "azure"),
        ("abfss://team@account.dfs.core.windows.net/mlflow", "azure.storage", "azure"),
    ],
)
def test_missing_package_of_a_store_names_its_requirements(
    uri: str, package: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if _is_installed(package):
        pytest.skip(f"{package} is installed")
    message = _message(capsys, uri)
    assert f"the artifact store {uri.replace('team@', '[hidden]@')} needs the package " in message
    assert f"uv pip install -r requirements-{file}.txt" in message


@pytest.mark.parametrize(
    ("scheme", "package", "advice"),
    [
        ("postgresql", "psycopg", "-r requirements-postgres.txt"),
        ("postgresql+psycopg2", "psycopg2", "psycopg2-binary"),
        ("mysql", "MySQLdb", "pymysql, and begin the URI with mysql+pymysql://"),
        ("mssql+pyodbc", "pyodbc", "pyodbc"),
    ],
)
def test_missing_package_of_a_database_is_named(
    scheme: str, package: str, advice: str, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if _is_installed(package):
        pytest.skip(f"{package} is installed")
    mlflow.set_tracking_uri(f"{scheme}://me:secret@127.0.0.1:9/mlflow")
    message = _message(capsys)
    assert (
        f"the database {scheme}://[hidden]@127.0.0.1:9/mlflow needs the package {package},"
        in message
    )
    assert f"uv pip install {advice}," in message


@pytest.mark.usefixtures("tracking")
def test_folder_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the folder of a server that lets its clients write to a path of its own machine."""
    (tmp_path / "file").touch()
    message = _message(capsys, f"{tmp_path}/file/mlruns")
    assert f"the artifact store {tmp_path}/file/mlruns is a folder that this machine" in message
    assert "start the server without --no-serve-artifacts" in message


@pytest.mark.usefixtures("tracking")
@pytest.mark.parametrize("retries", ["0", "1"])
def test_store_behind_a_server_is_told_from_the_server(
    retries: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(tracking_errors.RETRIES, retries)
    with server_with_status(500) as url:
        message = _message(capsys, f"{url}/api/2.0/mlflow-artifacts/artifacts/1")
    assert "answers, but cannot use its artifact store (500 error)" in message


@pytest.mark.usefixtures("tracking")
def test_server_that_drops_artifacts_is_told_from_one_that_is_down(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As MLflow 3.17's server whose S3 is down."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.close_connection = True

    with serving_in_thread(Handler) as url:
        message = _message(capsys, f"{url}/api/2.0/mlflow-artifacts/artifacts/1")
    assert "answers, but cannot use its artifact store (it drops the connection)" in message


@pytest.mark.usefixtures("tracking")
def test_server_that_is_down_is_no_fault_of_its_store(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = "http://127.0.0.1:9/api/2.0/mlflow-artifacts/artifacts/1"
    assert "does not answer" in _message(capsys, store)


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # its parent is not installed
        return False
