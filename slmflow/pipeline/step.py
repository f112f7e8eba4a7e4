"""How a step runs: arguments to config, one MLflow run around the work, one message on a fault.

The work of a step is a function of a `Step`, run by `run_step("convert", convert)`.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import hydra
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from sqlalchemy.exc import SQLAlchemyError

from slmflow.config import compose as configs
from slmflow.config import overrides
from slmflow.config.schema.config import Config
from slmflow.console import messages
from slmflow.console.redaction import redact
from slmflow.errors import UserError
from slmflow.paths import CONF
from slmflow.pipeline import (
    keys,
    results,
    runs,
    stale_runs,
    store,
    temporary_files,
    tracking_errors,
)
from slmflow.pipeline.failures import INTERRUPTED, report_failure
from slmflow.pipeline.results import Result
from slmflow.system import child_processes
from slmflow.system.git_state import read_git_state

R = TypeVar("R", bound=Result)

ConfigReader = Callable[[Sequence[str]], tuple[Sequence[str], Config]]
"""What makes of overrides those that the step goes by, and its config. Raises BadArguments."""

_RUN_STATUS = {0: "FINISHED", INTERRUPTED: "KILLED"}


@dataclass(frozen=True)
class Step:
    """A step under way: its config, the overrides it was made of, and its MLflow run.

    launch: what runs the other steps that it needs.
    """

    name: str
    config: Config
    overrides: tuple[str, ...]
    run: Run
    launch: runs.Launcher = runs.launch_step

    def ensure(self, kind: type[R]) -> R:
        """Return the result of another step: a finished run's with the same key, or a new one's.

        Raises UserError where that step fails.
        """
        key = self.key(kind)
        with runs.lock_result(kind, key):
            if found := runs.find_finished(kind, key, self.run.info.experiment_id):
                result, run_id = found
                if not self.is_nested:
                    messages.step_status(kind.step, f"reused from run {run_id}")
                self.tag_reuse(kind.step, run_id)
                return result
            messages.step_status(kind.step, "runs")
            return runs.load_result(kind, self.launch(kind.step, self.overrides, self.run))

    def key(self, kind: type[Result]) -> str:
        """Return the key of a result under this step's config."""
        return keys.key_of(kind, self.config)

    @property
    def is_nested(self) -> bool:
        """Whether another step launched this one, and tells the user what comes of it.

        A notebook's run, or any other, may be the parent too.
        """
        parent = self.run.data.tags.get(MLFLOW_PARENT_RUN_ID)
        return parent is not None and runs.STEP in MlflowClient().get_run(parent).data.tags

    def tag_reuse(self, step: str, run_id: str) -> None:
        """Note on the step's run that the result of another is taken, and from which run."""
        client = MlflowClient()
        before = client.get_run(self.run.info.run_id).data.tags.get(runs.REUSED_FROM)
        noted = f"{before}, {step}:{run_id}" if before else f"{step}:{run_id}"
        client.set_tag(self.run.info.run_id, runs.REUSED_FROM, noted)


def load_config(given: Sequence[str]) -> tuple[Sequence[str], Config]:
    """Return overrides as they are, and the config they make. Raises BadArguments."""
    return given, configs.load(given)


def run_step(name: str, work: Callable[[Step], Result | None], read: ConfigReader = load_config) -> None:
    """Run one step from the command line and exit with its status.

    0 done, 1 a fault its message explains, 2 bad arguments. With one of Hydra's own flags
    (`--help`, `--cfg job`) Hydra answers and nothing runs.
    """
    if overrides.has_hydra_flag(sys.argv[1:]):
        sys.exit(_ask_hydra(sys.argv[1:]))
    # A step that is cancelled ends as one that is interrupted by the keyboard: its run is KILLED.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if "MLFLOW_RUN_ID" in os.environ:
        child_processes.terminate_with_parent()
    with temporary_files.use_private_folder():
        status = run(name, work, sys.argv[1:], load_config)
    sys.exit(status)


def run(
    name: str,
    work: Callable[[Step], Result | None],
    arguments: Sequence[str],
    read: ConfigReader = load_config,
    new_run: Mapping[str, Any] | None = None,
    launch: runs.Launcher = runs.launch_step,
) -> int:
    """Run one step as the MLflow run it was launched in, or a new one; return its exit status.

    new_run: further arguments of `mlflow.start_run`, for a run that a caller in the same process
    wants as a child of its own. launch: what runs the steps that this one needs.
    """
    try:
        given, config = load_config(overrides.from_arguments(arguments))
    except UserError as fault:
        return report_failure(fault, os.environ.get("MLFLOW_RUN_ID"))
    with stale_runs.hold_run_lock() as tag:
        try:
            run = _start_run(name, tag, new_run or {})
        except (MlflowException, SQLAlchemyError) as error:
            return report_failure(tracking_errors.server_error(error), None)
        return _end_run(_work(work, Step(name, config, tuple(given), run, launch)))


def _start_run(name: str, tag: Mapping[str, str], new_run: Mapping[str, Any]) -> Run:
    """Start the run that this process was launched in, or a new one."""
    tags = {**(new_run.get("tags") or {}), **tag}
    run_name = None if "MLFLOW_RUN_ID" in os.environ else name
    return mlflow.start_run(**{"run_name": run_name, **new_run, "tags": tags})


def _end_run(status: int) -> int:
    """Tell the tracking server how the run ended; return the exit status."""
    try:
        mlflow.end_run(_RUN_STATUS.get(status, "FAILED"))
    except (MlflowException, SQLAlchemyError) as error:
        return status or report_failure(tracking_errors.server_error(error), None)
    return status


def _ask_hydra(arguments: Sequence[str]) -> int:
    """Have Hydra answer its own flags, of the config that a run has; return the exit status."""
    flags, given = overrides.split_hydra_flags(arguments)
    try:
        taken = overrides.for_hydra(overrides.from_arguments(given))
    except UserError as fault:
        return report_failure(fault, None)
    sys.argv[1:] = [*flags, *taken]
    hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(lambda _: None)()
    return 0


def _work(work: Callable[[Step], Result | None], step: Step) -> int:
    try:
        if stale_runs.is_orphan(step.run):
            raise KeyboardInterrupt
        stale_runs.end_stale_runs(step.run)
        store.remove_abandoned_builds()
        _describe(step)
        if (result := work(step)) is not None:
            mlflow.set_tag(runs.KEY, step.key(type(result)))
            mlflow.log_dict(result.to_json(), results.FILE)
    except (Exception, KeyboardInterrupt) as fault:
        return report_failure(tracking_errors.explain(fault) or fault, step.run.info.run_id)
    return 0


def _describe(step: Step) -> None:
    mlflow.set_tag(runs.STEP, step.name)
    _hide_secrets(step.run)
    several = overrides.swept_values(step.overrides)
    runs.log_params(step.run, configs.flatten(step.config, several))
    mlflow.log_dict(configs.to_dict(step.config, several), "config.yaml")
    if (state := read_git_state()) is not None:
        commit, dirty = state
        mlflow.set_tag(runs.GIT_COMMIT, commit)
        if dirty is not None:
            mlflow.set_tag(runs.GIT_DIRTY, str(dirty).lower())


def _hide_secrets(run: Run) -> None:
    """Mend the tags that MLflow made: it notes the remote of a clone, with its token."""
    mended = {name: redact(value) for name, value in run.data.tags.items()}
    mlflow.set_tags({n: value for n, value in mended.items() if value != run.data.tags[n]})
