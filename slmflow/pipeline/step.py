"""How a step runs.

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
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import hydra
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from sqlalchemy.exc import SQLAlchemyError

from slmflow.config import compose, overrides
from slmflow.config.schema.config import Config
from slmflow.console import messages
from slmflow.console.redaction import redact
from slmflow.errors import UserError
from slmflow.paths import CONF
from slmflow.pipeline import (
    entries,
    freshness,
    keys,
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
from slmflow.system import child_processes
from slmflow.system.git_state import read_git_state

R = TypeVar("R", bound=Result)

ConfigReader = Callable[[Sequence[str]], tuple[Sequence[str], Config]]
"""Returns a step's overrides and config, from those of its caller. Raises BadArguments."""

_RUN_STATUS = {0: "FINISHED", INTERRUPTED: "KILLED"}


@dataclass(frozen=True)
class Step:
    """A running step: its config, the overrides behind it, and its MLflow run.

    ensured: the results of other steps so far; found: those that finished runs have, with the ids
    of the runs.
    """

    name: str
    config: Config
    overrides: tuple[str, ...]
    run: Run
    ensured: dict[type[Result], Any] = field(default_factory=dict, compare=False, repr=False)
    found: dict[type[Result], tuple[Any, str]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def ensure(self, kind: type[R]) -> R:
        """Return the result of another step: from a finished run with its key, or a new run.

        Raises UserError if that step fails.
        """
        if kind not in self.ensured:
            self.ensured[kind] = self._find_or_launch(kind)
        result: R = self.ensured[kind]
        return result

    def find(self, kind: type[R]) -> R | None:
        """Return the result of another step that a finished run has; None if the step must run."""
        if kind in self.ensured:
            ensured: R = self.ensured[kind]
            return ensured
        finished = self.find_finished(kind, warn=False)
        return finished and finished[0]

    def required(self, *kinds: type[Result]) -> list[type[Result]]:
        """Return what to ensure for some results, in the order of the data flow.

        That is these results, and the inputs of each step that must run.
        """
        return self._with_inputs(kinds, lambda kind: self.find(kind) is None)

    def behind(self, *kinds: type[Result]) -> list[type[Result]]:
        """Return some results and all that they are made from, in the order of the data flow."""
        return self._with_inputs(kinds, lambda kind: True)

    def ensure_all(self, *kinds: type[Result]) -> None:
        """Ensure results and, one after another, what the steps that must run work on.

        So no step has to launch another.
        """
        for kind in self.required(*kinds):
            self.ensure(kind)

    def recorded(self, kind: type[R]) -> R:
        """Return a result as its run recorded it: its files may be in another user's store."""
        run_id = runs.newest_run_id(kind, self.key(kind), self.run.info.experiment_id)
        if kind in self.ensured or run_id is None:
            return self.ensure(kind)
        return runs.load_result(kind, run_id)

    def report_unneeded(self, kind: type[Result]) -> None:
        """Say that a result is not needed, because those made from it are reused."""
        run_id = runs.newest_run_id(kind, self.key(kind), self.run.info.experiment_id)
        if self.find(kind):
            self.ensure(kind)
        elif run_id is not None:
            messages.step_status(kind.step, f"not needed (run {run_id}; not in this store)")

    def _with_inputs(
        self, kinds: Sequence[type[Result]], has_inputs: Callable[[type[Result]], bool]
    ) -> list[type[Result]]:
        ordered: dict[type[Result], None] = {}
        for kind in kinds:
            inputs = kind.inputs(self.config) if has_inputs(kind) else ()
            ordered |= dict.fromkeys([*self._with_inputs(inputs, has_inputs), kind])
        return sorted(ordered, key=results.order)

    def _find_or_launch(self, kind: type[R]) -> R:
        with runs.lock_result(kind, self.key(kind)):
            if finished := self.find_finished(kind, warn=True):
                result, run_id = finished
                if not self.is_nested:
                    messages.step_status(kind.step, f"reused from run {run_id}")
                self.tag_reuse(kind.step, run_id)
                return result
            messages.step_status(kind.step, "runs")
            return runs.load_result(kind, self._launch(kind))

    def _launch(self, kind: type[Result]) -> str:
        # Imported here, because a run that reuses everything needs no projects.
        from slmflow.pipeline import launching

        following = launching.modules_after(kind, self.name)
        name = step_parts.run_name(kind.step, self.config)
        return launching.launch_step(kind.step, self.overrides, self.run, following, name)

    def find_finished(self, kind: type[R], *, warn: bool) -> tuple[R, str] | None:
        """Return a result and its run, and remember them; warn: say why a run is not reused."""
        if kind not in self.found:
            experiment_id = self.run.info.experiment_id
            root = freshness.root_run_id(self.run) if self.is_made_anew(kind) else None
            key = self.key(kind)
            finished = runs.find_finished(kind, key, experiment_id, warn=warn, root=root)
            if finished is None:
                return None
            self.found[kind] = finished
        found: tuple[R, str] = self.found[kind]
        return found

    def is_made_anew(self, kind: type[Result]) -> bool:
        """Return whether only a result that this run or one above it has launched is used."""
        return freshness.is_made_anew(kind, self.config)

    def key(self, kind: type[Result]) -> str:
        """Return the key of a result under this step's config."""
        return self._keys.of(kind)

    @cached_property
    def _keys(self) -> keys.Keys:
        return keys.Keys(self.config)

    @property
    def is_nested(self) -> bool:
        """Whether another step launched this one and reports its result to the user.

        The parent run may also be that of a notebook, which reports nothing.
        """
        parent = self.run.data.tags.get(MLFLOW_PARENT_RUN_ID)
        return parent is not None and runs.STEP in MlflowClient().get_run(parent).data.tags

    def tag_reuse(self, step: str, run_id: str) -> None:
        """Add a reused run of another step to a tag of this step's run."""
        client = MlflowClient()
        before = client.get_run(self.run.info.run_id).data.tags.get(runs.REUSED_FROM)
        reused = f"{before}, {step}:{run_id}" if before else f"{step}:{run_id}"
        client.set_tag(self.run.info.run_id, runs.REUSED_FROM, reused)


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
