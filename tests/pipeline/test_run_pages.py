"""The address of a run's page, the link at the end, and what a run is linked to."""

import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.pipeline import run_links, run_pages

pytestmark = pytest.mark.usefixtures("tracking")


@pytest.mark.parametrize(
    ("uri", "start"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/#/experiments/0/runs/"),
        ("https://me:secret@host/mlflow/", "https://host/mlflow/#/experiments/0/runs/"),
    ],
)
def test_address_is_of_the_server_without_credentials(
    uri: str, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = MlflowClient().create_run("0")
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: uri)

    assert run_pages.address(run) == start + run.info.run_id


def test_database_has_no_pages(capsys: pytest.CaptureFixture[str]) -> None:
    run = MlflowClient().create_run("0")

    run_pages.show_link(run)

    assert run_pages.address(run) is None
    assert "run in MLflow" not in capsys.readouterr().err


def test_run_below_another_shows_no_link(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parent = MlflowClient().create_run("0")
    child = MlflowClient().create_run("0", tags={"mlflow.parentRunId": parent.info.run_id})
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "http://127.0.0.1:5000")

    run_pages.show_link(child)
    run_pages.show_link(parent)

    assert capsys.readouterr().err.count("run in MLflow: http://127.0.0.1:5000/#/") == 1


def test_run_of_mlflow_run_shows_no_second_link(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = MlflowClient().create_run("0", tags={"mlflow.project.entryPoint": "main"})
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "http://127.0.0.1:5000")

    run_pages.show_link(run)

    assert "run in MLflow" not in capsys.readouterr().err


def test_models_of_another_server_are_left_out() -> None:
    model = mlflow.initialize_logged_model(name="tiny").model_id
    with mlflow.start_run() as run:
        run_links.log_models_in([model, "m-0000", None])
        run_links.log_models_out([model])

    logged = mlflow.get_run(run.info.run_id)
    assert [each.model_id for each in logged.inputs.model_inputs] == [model]
    assert [each.model_id for each in logged.outputs.model_outputs] == [model]
