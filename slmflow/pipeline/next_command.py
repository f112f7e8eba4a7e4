"""The command that a user types next, in the way in which this one was started."""

import os
import shlex
from collections.abc import Mapping

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PROJECT_ENTRY_POINT,
    MLFLOW_PROJECT_ENV,
    MLFLOW_SOURCE_NAME,
)

from slmflow.console.redaction import redact
from slmflow.paths import PROJECT, is_temporary_clone
from slmflow.system import databricks


def serve(run: Run, model_uri: str) -> str | None:
    """Return the command that serves a model; None in Databricks, where nobody could reach it.

    run: the one of this command.
    """
    tags = run.data.tags
    if databricks.RUNTIME in os.environ:
        return None
    if MLFLOW_PROJECT_ENTRY_POINT not in tags:
        return shlex.join(["python", "-m", "steps.serve", f"serve.model_uri={model_uri}"])
    options = shlex.join(["-e", "serve", "-P", f"model_uri={model_uri}"])
    # Of make; its environment with MLflow and uv is active in its own commands only.
    if "MAKELEVEL" in os.environ:
        return f'make run ARGS="{options}"'
    manager = tags.get(MLFLOW_PROJECT_ENV, "local")
    return f"mlflow run {_project(tags)} --env-manager {manager} {options}"


def _project(tags: Mapping[str, str]) -> str:
    """Return the project as an argument of `mlflow run`: its folder, or the address of a clone."""
    if not is_temporary_clone():
        return shlex.quote(str(PROJECT))
    return shlex.join([redact(tags[MLFLOW_SOURCE_NAME]), "-v", tags[MLFLOW_GIT_COMMIT]])
