"""The command that serves what was registered, and where `make run` keeps its runs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

from slmflow.paths import PROJECT
from slmflow.pipeline import next_command

URI = "models:/slmflow-tiny_phi3/1"

# Of the run that `mlflow run` creates.
PROJECT_TAGS = {"mlflow.project.env": "uv", "mlflow.project.entryPoint": "main"}


@pytest.mark.usefixtures("tracking")
@pytest.mark.parametrize(
    ("tags", "variables", "command"),
    [
        ({}, {}, f"python -m steps.serve serve.model_uri={URI}"),
        (PROJECT_TAGS, {}, f"mlflow run {PROJECT} --env-manager uv -e serve -P model_uri={URI}"),
        (PROJECT_TAGS, {"MAKELEVEL": "1"}, f'make run ARGS="-e serve -P model_uri={URI}"'),
        (PROJECT_TAGS, {"DATABRICKS_RUNTIME_VERSION": "15.4"}, None),
    ],
)
def test_command_is_given_as_this_one_was(
    tags: dict[str, str],
    variables: dict[str, str],
    command: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = MlflowClient().create_run("0", tags=tags)
    for name in ("MAKELEVEL", "DATABRICKS_RUNTIME_VERSION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert next_command.serve(run, URI) == command


def test_database_of_make_is_outside_the_project(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(PROJECT / "Makefile", project)
    (project / ".venv").mkdir()
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def show() -> str:
        command = ["make", "--dry-run", "--old-file", ".venv", "run"]
        shown = subprocess.run(command, cwd=project, env=environ, capture_output=True, check=True)
        return shown.stdout.decode()

    assert f"sqlite:///{tmp_path}/cache/slmflow/" in show()
    assert "${MLFLOW_TRACKING_URI:-sqlite:///" in show()
    (project / "mlflow.db").touch()
    assert f"sqlite:///{project}/mlflow.db" in show()
