"""What a running step is given: its config, its MLflow run, and the results of other steps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from slmflow.config.schema.config import Config
from slmflow.console import messages
from slmflow.pipeline import freshness, keys, results, runs, step_parts
from slmflow.pipeline.results import Result

R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Step:
    """A running step: its config, the overrides behind it, and its MLflow run.

    ensured: the results of other steps so far; found: those that finished runs have, with the ids
    of the runs; reused: the steps and runs of those that were ensured from them.
    """

    name: str
    config: Config
    overrides: tuple[str, ...]
    run: Run
    ensured: dict[type[Result], Any] = field(default_factory=dict, compare=False, repr=False)
    found: dict[type[Result], tuple[Any, str]] = field(
        default_factory=dict, compare=False, repr=False
    )
    reused: list[str] = field(default_factory=list, compare=False, repr=False)

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
        if self.find(kind):
            self.ensure(kind)
        elif run_id := runs.newest_run_id(kind, self.key(kind), self.run.info.experiment_id):
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
        self.reused.append(f"{step}:{run_id}")
        MlflowClient().set_tag(self.run.info.run_id, runs.REUSED_FROM, ", ".join(self.reused))
