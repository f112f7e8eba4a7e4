"""Launch a step as a project run: in a fork of a process that has imported what it needs."""

import logging
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import ExecutionException, MlflowException
from mlflow.projects.backend import loader
from mlflow.projects.backend.local import LocalBackend
from mlflow.projects.submitted_run import LocalSubmittedRun, SubmittedRun
from mlflow.projects.utils import (
    MLFLOW_LOCAL_BACKEND_RUN_ID_CONFIG,
    PROJECT_STORAGE_DIR,
    get_entry_point_command,
    get_or_create_run,
    get_run_env_vars,
    load_project,
)
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_PROJECT_ENTRY_POINT

from slmflow.errors import UserError
from slmflow.paths import PROJECT
from slmflow.pipeline import runs, tracking_errors
from slmflow.pipeline.results import FLOW, Result
from slmflow.system import forked_process

_BACKEND = "slmflow"
_FOLLOWING = "following"
_PYTHON = ["python", "-m"]

_launched: set[str] = set()


class _ForkingBackend(LocalBackend):
    """Runs an entry point in a fork; where that is impossible, as MLflow's own local backend."""

    def run(
        self,
        project_uri: str,
        entry_point: str,
        params: dict[str, str],
        version: str | None,
        backend_config: dict[str, Any],
        tracking_uri: str,
        experiment_id: str,
    ) -> SubmittedRun:
        """Create the run and start its process."""
        run = get_or_create_run(
            None, project_uri, experiment_id, project_uri, version, entry_point, params
        )
        run_id = run.info.run_id
        project = load_project(project_uri)
        [command] = get_entry_point_command(
            project, entry_point, params, backend_config[PROJECT_STORAGE_DIR]
        )
        words = shlex.split(command)
        process = words[:2] == _PYTHON and forked_process.start(
            words[2],
            words[3:],
            folder=Path(project_uri),
            environment=os.environ | get_run_env_vars(run_id, experiment_id),
            following=backend_config[_FOLLOWING],
        )
        if process:
            return LocalSubmittedRun(run_id, process)
        config = {**backend_config, MLFLOW_LOCAL_BACKEND_RUN_ID_CONFIG: run_id}
        submitted: SubmittedRun = super().run(  # type: ignore[no-untyped-call]
            project_uri, entry_point, params, version, config, tracking_uri, experiment_id
        )
        return submitted


loader.MLFLOW_BACKENDS[_BACKEND] = _ForkingBackend


def launch_step(
    step: str, overrides: Sequence[str], parent: Run, following: Sequence[str], name: str
) -> str:
    """Run a step as a nested project run of `parent` and return the id of its run.

    following: modules of the steps that may run next; name: of the run. Raises UserError if the
    step fails, marked as shown if the step has printed the reason.
    """
    if step in _launched:  # a sweep runs it for each group of points
        following = [f"steps.{step}", *following]
    _launched.add(step)
    _put_python_on_path()
    # Hide "=== Created directory ... ===".
    logging.getLogger("mlflow.projects").setLevel(logging.CRITICAL)
    # MLflow leaves behind a folder for downloaded parameters: it is removed with this one.
    with tempfile.TemporaryDirectory() as scratch:
        try:
            submitted = mlflow.projects.run(
                uri=str(PROJECT),
                entry_point=step,
                parameters=dict(override.split("=", 1) for override in overrides),
                experiment_id=parent.info.experiment_id,
                backend=_BACKEND,
                backend_config={_FOLLOWING: following},
                env_manager="local",
                storage_dir=scratch,
                run_name=name,
            )
        except ExecutionException as failure:
            raise _find_failure(step, parent) from failure
        except KeyboardInterrupt:
            _mark_interrupted(_last_child(step, parent))
            raise
    return str(submitted.run_id)


def modules_after(kind: type[Result], caller: str) -> list[str]:
    """Return the modules of the steps that the step `caller` may need after that of `kind`.

    Those are all steps that work on the result; for a caller without a result, such as `main`, to
    the end of the data flow.
    """
    needed = next((_inputs(each) for each in FLOW if each.step == caller), set(FLOW))
    return [f"steps.{each.step}" for each in FLOW if each in needed and kind in _inputs(each)]


def _inputs(kind: type[Result]) -> set[type[Result]]:
    """Return what a result is made from, directly or through others."""
    return {*kind.consumes, *(each for other in kind.consumes for each in _inputs(other))}


def _find_failure(step: str, parent: Run) -> UserError:
    """Return why a step failed; the step has already printed it if the server is unavailable."""
    try:
        return _failure(step, _last_child(step, parent))
    except MlflowException as error:
        if (fault := tracking_errors.explain(error)) is None:
            raise
        return UserError(f"step {step} failed: {fault}", shown=True)


def _failure(step: str, child: Run | None) -> UserError:
    """Return the error to raise in the parent of a step's failed run, if there is a run."""
    message = child.data.tags.get(runs.ERROR) if child else None
    reason = message or "its process was killed, probably because the machine ran out of memory"
    if child and not message:
        runs.tag_error(child.info.run_id, reason)
    return UserError(f"step {step} failed: {reason}", shown=message is not None)


def _mark_interrupted(child: Run | None) -> None:
    """Mark an interrupted run as KILLED: MLflow marks it as FAILED, or not at all."""
    if child is not None and child.info.status != "FINISHED":
        runs.tag_error(child.info.run_id, "interrupted")
        MlflowClient().set_terminated(child.info.run_id, "KILLED")


def _last_child(step: str, parent: Run) -> Run | None:
    children = MlflowClient().search_runs(
        [parent.info.experiment_id],
        f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent.info.run_id}' "
        f"and tags.`{MLFLOW_PROJECT_ENTRY_POINT}` = '{step}'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return children[0] if children else None


def _put_python_on_path() -> None:
    """Put the running interpreter first on PATH: MLproject's commands call `python`."""
    folder = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", "").split(os.pathsep)
    if path[0] != folder:
        os.environ["PATH"] = os.pathsep.join([folder, *path])
