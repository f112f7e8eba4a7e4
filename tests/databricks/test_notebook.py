"""Steps inside a Databricks runtime, which their environment names: called from a notebook."""

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.entities import Run

from slmflow.paths import PROJECT
from slmflow.system import databricks
from tests.databricks.submitting import EXPERIMENT, tracking_client
from tests.databricks.workspace import Driver, Workspace

# What a cell does: the runtime of a notebook says where it tracks, and which experiment is its own.
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


def _call(driver: Driver, *command: str, **further: str) -> "subprocess.CompletedProcess[str]":
    """Call a command on a driver, in a folder that must stay empty, as the home folder must."""
    folder = driver.folder / "notebook"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, *command],
        env=driver.environ(PYTHONPATH=str(PROJECT), **further),
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert list(folder.iterdir()) == []
    assert list((driver.root / "home").iterdir()) == []
    return done


def _run(space: Workspace, run_id: str) -> Run:
    return tracking_client(space).get_run(run_id)


@pytest.mark.long
def test_the_notebooks_run_is_the_parent_and_goes_on(space: Workspace) -> None:
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true"}  # the cell's own MLflow notes it in the home
    done = _call(space.new_driver(), "-c", CELL, str(PROJECT), EXPERIMENT, **quiet)

    assert done.returncode == 0, done.stderr
    [told] = [line for line in done.stdout.splitlines() if line.startswith("runs ")]
    _, run_id, step_id, status = told.split()
    notebook, step = _run(space, run_id), _run(space, step_id)
    assert status == "RUNNING"
    assert notebook.data.params == {"of": "the notebook"}
    assert step.data.tags["mlflow.parentRunId"] == run_id
    assert step.info.experiment_id == notebook.info.experiment_id
    assert step.info.status == "FINISHED"


def test_a_step_takes_the_run_and_the_workspace_it_finds(space: Workspace) -> None:
    """Nothing but the runtime says that this is to be tracked in the workspace."""
    experiment = tracking_client(space).create_experiment("/Shared/own")
    run = tracking_client(space).create_run(experiment)

    driver = space.new_driver()
    done = _call(driver, "-m", "steps.fetch", MLFLOW_RUN_ID=run.info.run_id)

    assert done.returncode == 0, done.stderr
    found = _run(space, run.info.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.tags["slmflow.step"] == "fetch"
    assert [r.info.run_id for r in tracking_client(space).search_runs([experiment])] == [
        run.info.run_id
    ]
    assert (driver.root / "tmp/slmflow/store/weights").is_dir()


def test_uris_that_are_given_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    given = {databricks.RUNTIME: "15.4", "MLFLOW_TRACKING_URI": "databricks://other"}
    given["SLMFLOW_HOME"] = "/Volumes/main/default/slmflow"
    environ = dict(given)

    databricks.set_default_environment(environ)

    assert environ.items() >= given.items()


def test_outside_of_a_runtime_nothing_is_changed() -> None:
    environ = {"HOME": "/home/me"}

    databricks.set_default_environment(environ)

    assert environ == {"HOME": "/home/me"}


@pytest.mark.parametrize(
    ("path", "mounted"),
    [("/Volumes/a/b/c", True), ("/dbfs/tmp", True), ("/Volumesque", False), ("/home", False)],
)
def test_volumes_are_known_by_their_path(path: str, mounted: bool) -> None:
    assert databricks.is_object_storage(Path(path)) is mounted
