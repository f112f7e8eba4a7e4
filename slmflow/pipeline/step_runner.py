"""How a step runs, from the command line to its exit status.

`run_step("convert", convert)` in `steps/convert.py`, from the command line:

1. Overrides are read and composed into a `Config`; invalid ones end here with status 2.
2. The MLflow run that launched this process is resumed, or a new one is started. While the process
   works it holds a lock, by which others can tell that the run is not stale.
3. What dead processes left behind is cleaned up, and the run gets its params, tags and config.
4. The work, `convert(step)`, asks for the results it needs with `step.ensure(Weights)`: a finished
   run with the same key is reused, or else that step is launched as a nested project run.
5. The result that the work returns is logged as `result.json`, and its key as a tag.
6. A failure is printed once and put into a tag of the run; the exit status tells its kind.
"""

import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hydra
import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from sqlalchemy.exc import SQLAlchemyError

from slmflow.config import compose, overrides
from slmflow.config.schema.config import Config
from slmflow.console import messages
from slmflow.console.redaction import redact
from slmflow.errors import UserError
from slmflow.paths import CONF, PROJECT
from slmflow.pipeline import (
    entries,
    freshness,
    model_uris,
    results,
    run_pages,
    runs,
    stale_runs,
    step_parts,
    store_servers,
    temporary_files,
    tracking_errors,
    tracking_server,
    warm_start,
)
from slmflow.pipeline.failures import INTERRUPTED, report_failure
from slmflow.pipeline.results import Result
from slmflow.pipeline.step import Step
from slmflow.system import child_processes, databricks
from slmflow.system.git_state import read_git_state

ConfigReader = Callable[[Sequence[str]], tuple[Sequence[str], Config]]
"""Returns a step's overrides and config, from those of its caller. Raises BadArguments."""

_RUN_STATUS = {0: "FINISHED", INTERRUPTED: "KILLED"}


def load_config(step_overrides: Sequence[str]) -> tuple[Sequence[str], Config]:
    """Return the overrides unchanged, and their config. Raises BadArguments."""
    return step_overrides, compose.load(step_overrides)


def run_step(
    name: str, work: Callable[[Step], Result | None], read: ConfigReader = load_config
) -> None:
    """Run one step from the command line and exit with its status.

    0: done; 1: failed, for a reason that its message explains; 2: bad arguments. With a flag of
    Hydra's own (`--help`, `--cfg job`) Hydra answers and the step does not run.
    """
    arguments = sys.argv[1:]
    if overrides.has_hydra_flag(arguments):
        sys.exit(run_hydra(arguments))
    # Cancelling a step is the same as Ctrl-C: its run becomes KILLED.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if "MLFLOW_RUN_ID" in os.environ:
        child_processes.terminate_with_parent()
    tracking_errors.silence_database_log()
    try:
        loaded = read(overrides.from_arguments(arguments))
    except UserError as fault:
        sys.exit(report_failure(fault, os.environ.get("MLFLOW_RUN_ID")))
    with warm_start.serving(name), temporary_files.use_private_folder():
        status = run(name, work, arguments, lambda _: loaded)
    sys.exit(status)


def run(
    name: str,
    work: Callable[[Step], Result | None],
    arguments: Sequence[str],
    read: ConfigReader = load_config,
    new_run: Mapping[str, Any] | None = None,
) -> int:
    """Run one step in this process; return its exit status.

    new_run: more arguments of `mlflow.start_run`, e.g. to make it a child of another run.
    """
    tracking_errors.silence_database_log()
    try:
        step_overrides, config = _pin_source(*read(overrides.from_arguments(arguments)))
    except (UserError, ImportError) as fault:
        shown = tracking_errors.explain(fault) or fault
        return report_failure(shown, os.environ.get("MLFLOW_RUN_ID"))
    with stale_runs.hold_run_lock() as tag:
        try:
            run = _start_run(name, config, step_overrides, tag, new_run or {})
        except (UserError, MlflowException, SQLAlchemyError, ImportError) as error:
            return report_failure(tracking_errors.server_error(error), None)
        status = _end_run(_work(work, Step(name, config, tuple(step_overrides), run)))
        run_pages.show_link(run)
        return status


def _pin_source(step_overrides: Sequence[str], config: Config) -> tuple[Sequence[str], Config]:
    """Replace an alias in `model.uri` or `model.adapter` by its version, for all steps of a run.

    A sweep over models, whose points differ in it, resolves each. Raises BadArguments if there is
    no such version.
    """
    if "model" in overrides.swept_values(step_overrides):
        return step_overrides, config
    for name in ("uri", "adapter"):
        key, value = f"model.{name}", getattr(config.model, name)
        if value is None or (pinned := model_uris.pin(key, value)) == value:
            continue
        messages.info(f"{value} is {pinned}")
        model = dataclasses.replace(config.model)
        setattr(model, name, pinned)
        config = dataclasses.replace(config, model=model)
        others = [each for each in step_overrides if not each.startswith(f"{key}=")]
        step_overrides = [*others, f"{key}={pinned}"]
    return step_overrides, config


def _start_run(
    step: str,
    config: Config,
    step_overrides: Sequence[str],
    tag: Mapping[str, str],
    new_run: Mapping[str, Any],
) -> Run:
    """Resume the run that launched this process, or start a new one, and name it.

    A name that the user gave stays. Raises UserError if the tracking server is too old, or is not
    the one that has the run.
    """
    tracking_server.check()
    name = step_parts.run_name(step, config, overrides.swept_values(step_overrides))
    tags = {**(new_run.get("tags") or {}), **tag}
    is_resumed = "MLFLOW_RUN_ID" in os.environ
    run = mlflow.start_run(**{"run_name": None if is_resumed else name, **new_run, "tags": tags})
    if is_resumed and run_pages.is_generated_name(run.info.run_name):
        mlflow.set_tag(MLFLOW_RUN_NAME, name)
    return run


def _end_run(status: int) -> int:
    try:
        mlflow.end_run(_RUN_STATUS.get(status, "FAILED"))
    except (MlflowException, SQLAlchemyError) as error:
        return status or report_failure(tracking_errors.server_error(error), None)
    return status


def run_hydra(arguments: Sequence[str]) -> int:
    """Let Hydra handle its own flags, with the config that a run has; return the exit status."""
    flags, others = overrides.split_hydra_flags(arguments)
    try:
        hydra_overrides = overrides.for_hydra(overrides.from_arguments(others))
    except UserError as fault:
        return report_failure(fault, None)
    sys.argv[1:] = [*flags, *hydra_overrides]
    hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(lambda _: None)()
    return 0


def _work(work: Callable[[Step], Result | None], step: Step) -> int:
    try:
        if stale_runs.is_orphan(step.run):
            raise KeyboardInterrupt
        stale_runs.end_stale_runs(step.run)
        entries.remove_abandoned_builds()
        store_servers.note()
        _describe(step)
        advice = databricks.upload_advice(PROJECT, os.environ)
        if advice and not step.is_nested:
            messages.info(advice)
        if (result := work(step)) is not None:
            mlflow.set_tag(runs.KEY, step.key(type(result)))
            mlflow.log_dict(result.to_json(), results.FILE)
    except (Exception, KeyboardInterrupt) as fault:
        return report_failure(tracking_errors.explain(fault) or fault, step.run.info.run_id)
    return 0


def _describe(step: Step) -> None:
    """Log the step's name, config and git commit to its run."""
    mlflow.set_tag(runs.STEP, step.name)
    if freshness.makes_any(step.config):
        mlflow.set_tag(runs.ROOT, freshness.root_run_id(step.run))
    _redact_tags(step.run)
    swept = overrides.swept_values(step.overrides)
    runs.log_params(step.run, step_parts.params(step.name, step.config, swept))
    mlflow.log_dict(compose.to_dict(step.config, swept), "config.yaml")
    if (state := read_git_state()) is not None:
        commit, is_dirty = state
        mlflow.set_tag(runs.GIT_COMMIT, commit)
        if is_dirty is not None:
            mlflow.set_tag(runs.GIT_DIRTY, str(is_dirty).lower())


def _redact_tags(run: Run) -> None:
    """Remove secrets from the tags that MLflow set: the remote of a clone may contain a token."""
    tags = {name: redact(value) for name, value in run.data.tags.items()}
    mlflow.set_tags({name: v for name, v in tags.items() if v != run.data.tags[name]})
