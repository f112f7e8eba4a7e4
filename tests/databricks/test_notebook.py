"""Steps inside a Databricks runtime, called from a notebook."""

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.entities import Run

from slmflow.paths import PROJECT
from slmflow.system import databricks
from tests.databricks.submitting import EXPERIMENT, tracking_client
from tests.databricks.workspace import Driver, Workspace

# A notebook cell. The runtime of a notebook sets the tracking server and the experiment.
CELL = """
import sys
import mlflow
mlflow.set_tracking_uri("databricks")
mlflow.set_experiment(sys.argv[2])
with mlflow.start_run() as run:
    mlflow.log_param("of", "the notebook")
    step = mlflow.projects.run(sys.argv[1], "fetch", env_manager="local")
    print("runs", run.info.run_id, step.run_id, mlflow.get_run(run.info.run_id).info.status)
"""


def _call(driver: Driver, *command: str, **further: str) -> str:
    """Return the output of a command, which must leave its folder and the home folder empty."""
    folder = driver.folder / "notebook"
    folder.mkdir()
    environment = driver.environ(PYTHONPATH=str(PROJECT), **further)
    process = subprocess.run(
        [sys.executable, *command], env=environment, cwd=folder, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    assert list(folder.iterdir()) == []
    assert list((driver.root / "home").iterdir()) == []
    return process.stdout


def _run(workspace: Workspace, run_id: str) -> Run:
    return tracking_client(workspace).get_run(run_id)


@pytest.mark.long
def test_notebook_run_is_the_parent_and_continues(workspace: Workspace) -> None:
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true"}  # the cell's own MLflow writes to the home folder
    output = _call(workspace.new_driver(), "-c", CELL, str(PROJECT), EXPERIMENT, **quiet)

    [printed] = [line for line in output.splitlines() if line.startswith("runs ")]
    _, run_id, step_id, status = printed.split()
    notebook, step = _run(workspace, run_id), _run(workspace, step_id)
    assert status == "RUNNING"
    assert notebook.data.params == {"of": "the notebook"}
    assert step.data.tags["mlflow.parentRunId"] == run_id
    assert step.info.experiment_id == notebook.info.experiment_id
    assert step.info.status == "FINISHED"


@pytest.mark.long
def test_step_uses_the_run_and_workspace_of_the_runtime(workspace: Workspace) -> None:
    """Only the runtime selects the workspace as tracking server."""
    experiment = tracking_client(workspace).create_experiment("/Shared/own")
    run = tracking_client(workspace).create_run(experiment)

    driver = workspace.new_driver()
    _call(driver, "-m", "steps.fetch", MLFLOW_RUN_ID=run.info.run_id)

    [step] = tracking_client(workspace).search_runs([experiment])
    assert step.info.run_id == run.info.run_id
    assert step.info.status == "FINISHED"
    assert step.data.tags["slmflow.step"] == "fetch"
    assert (driver.root / "tmp/slmflow/store/weights").is_dir()


def test_variables_that_are_set_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    existing = {databricks.RUNTIME: "15.4", "MLFLOW_TRACKING_URI": "databricks://other"}
    existing["SLMFLOW_HOME"] = "/Volumes/main/default/slmflow"
    environ = dict(existing)

    databricks.set_default_environment(environ)

    assert environ.items() >= existing.items()


def test_environment_outside_a_runtime_is_unchanged() -> None:
    environ = {"HOME": "/home/me"}

    databricks.set_default_environment(environ)

    assert environ == {"HOME": "/home/me"}


@pytest.mark.parametrize(
    ("path", "is_mounted"),
    [("/Volumes/a/b/c", True), ("/dbfs/tmp", True), ("/Volumesque", False), ("/home", False)],
)
def test_volumes_are_recognized_by_path(path: str, is_mounted: bool) -> None:
    assert databricks.is_object_storage(Path(path)) is is_mounted
