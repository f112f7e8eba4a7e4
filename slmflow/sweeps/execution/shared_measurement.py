"""Measure the models of several points together, before the points are evaluated.

The reference is loaded and measured once for all of them, and the points are compared on answers
from the same turns. The shared measurement is a child run of the sweep, and has a child run for
each point's measurement. A point that it leaves out is measured by the point's own evaluation.
"""

import dataclasses
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack

import psutil

from slmflow.datasets import rows
from slmflow.errors import UserError
from slmflow.measurement import (
    compared_models,
    execution_providers,
    interleaved,
    prompt_models,
    worker_process,
)
from slmflow.measurement.artifact import log_measurements
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, Measurement, Timing
from slmflow.measurement.timing_journal import TimingJournal
from slmflow.measurement.worker_process import WorkerProcess
from slmflow.pipeline import freshness, keys, runs, step_parts
from slmflow.pipeline.results import (
    Evaluation,
    Measurements,
    OnnxModel,
    Result,
)
from slmflow.pipeline.step import Step
from slmflow.sweeps.context import SHARED_MEASUREMENT, SweepContext
from slmflow.sweeps.execution.in_process_steps import CompletedStep, run_in_process
from slmflow.sweeps.points import Point
from slmflow.sweeps.pruning import PointPruned, Progress, Pruner

# Share of the available memory; decoding and the file cache of the weights need some too.
_MEMORY_SHARE = 0.5

Failures = dict[str, UserError | PointPruned]
"""Why a point has no measurement, by the point's name."""


def measure(
    points: Sequence[Point], context: SweepContext, pruner: Pruner | None, failures: Failures
) -> CompletedStep | None:
    """Measure together the points that are not measured yet; do nothing for a single one.

    pruner: with it, a single point is measured too. failures: receives the failures by point.
    """
    by_key = {keys.key_of(Measurements, point.config): point for point in points}
    with ExitStack() as locks:
        for key in sorted(by_key):
            locks.enter_context(runs.lock_result(Measurements, key))
        missing = {key: p for key, p in by_key.items() if _is_missing(key, p, context)}
        if len(missing) < (2 if pruner is None else 1):
            return None
        config = next(iter(missing.values())).config
        return run_in_process(
            Measurements.step,
            lambda step: _measure(step, missing, context, pruner, failures),
            _merge_overrides(list(missing.values())),
            context,
            run_name=f"{len(missing)} points with one reference",
            tags={SHARED_MEASUREMENT: str(len(missing))},
            read=lambda overrides: (overrides, config),
        )


def _is_missing(key: str, point: Point, context: SweepContext) -> bool:
    """Return whether a point can be measured here and has no measurement under its key."""
    try:
        execution_providers.check(point.config.target)
    except UserError:
        return False  # the point's evaluation reports it
    evaluation = point.config.evaluation
    if evaluation.model_uri or evaluation.tasks or _is_finished(Measurements, key, point, context):
        return False
    return not _is_finished(Evaluation, keys.key_of(Evaluation, point.config), point, context)


def _is_finished(kind: type[Result], key: str, point: Point, context: SweepContext) -> bool:
    """Return whether a point has a result; what is made anew counts if this sweep has made it."""
    root = context.run_id if freshness.is_made_anew(kind, point.config) else None
    return runs.find_finished(kind, key, context.experiment_id, root=root) is not None


def _measure(
    step: Step,
    points: Mapping[str, Point],
    context: SweepContext,
    pruner: Pruner | None,
    failures: Failures,
) -> None:
    """Measure points, which are given by the key of their measurement."""
    steps = {key: _step_of(step, point) for key, point in points.items()}
    with worker_process.start(_count_models_to_log(list(steps.values()))) as workers:
        _measure_groups(step, points, steps, workers, context, pruner, failures)


def _count_models_to_log(steps: Sequence[Step]) -> int:
    """Return how many models must only be logged before they are measured.

    Their processes import what they need meanwhile. A conversion needs the memory and the cores.
    """
    if not all(step.find(OnnxModel) for step in steps):
        return 0
    kinds = [(step, kind) for step in steps for kind in Measurements.inputs(step.config)]
    return len({step.key(kind) for step, kind in kinds if step.find(kind) is None})


def _measure_groups(
    step: Step,
    points: Mapping[str, Point],
    steps: Mapping[str, Step],
    workers: Sequence[WorkerProcess],
    context: SweepContext,
    pruner: Pruner | None,
    failures: Failures,
) -> None:
    below = context.below(step.run)
    references: list[MeasuredModel] = []
    converted: dict[MeasuredModel, str] = {}
    for key, point in points.items():
        try:
            *references, model = _ensure_models(steps[key])
        except UserError as failure:
            failures[point.name] = failure
            continue
        converted[model] = key
    for models in _split_by_memory(references, list(converted)) if converted else ():
        of_models = {converted[model]: points[converted[model]] for model in models}
        group_key = hashlib.sha256(" ".join(sorted(of_models)).encode()).hexdigest()
        compared = [*references, *models]
        started, workers = workers[: len(compared)], workers[len(compared) :]
        try:
            measured = _measure_models(
                step, list(of_models.values()), compared, pruner, group_key, started
            )
        except PointPruned as pruned:
            failures |= dict.fromkeys((point.name for point in of_models.values()), pruned)
            continue
        of_references, others = measured[: len(references)], measured[len(references) :]
        for point, of_model in zip(of_models.values(), others, strict=True):
            _log(below, point, [*of_references, of_model])
        TimingJournal(group_key).remove()


def _measure_models(
    step: Step,
    points: Sequence[Point],
    models: Sequence[MeasuredModel],
    pruner: Pruner | None,
    key: str,
    started: Sequence[WorkerProcess],
) -> tuple[Measurement, ...]:
    """Measure the models of a group of points, any reference first. Raises PointPruned.

    key: of the group's timings; started: processes that have no model yet.
    """
    questions = rows.read(points[0].config)
    of_first = _step_of(step, points[0])
    configs = [point.config for point in points]
    plan = interleaved.Plan.of_step(of_first, questions, key, configs)

    def check(
        model: MeasuredModel, answers: Mapping[int, Answer], timings: Collection[Timing]
    ) -> None:
        if pruner is not None and (len(models) == 1 or model != models[0]):
            timed = min(plan.timed_rows, len(questions) - len(plan.unanswerable))
            pruner.check(Progress(model, questions, answers, timings, timed))

    return interleaved.measure(models, questions, plan, check, started)


def _step_of(step: Step, point: Point) -> Step:
    """Return the step with the config of a point, which ensures the point's results."""
    return dataclasses.replace(
        step, config=point.config, overrides=point.overrides, ensured={}, found={}
    )


def _ensure_models(step: Step) -> list[MeasuredModel]:
    """Ensure a point's models in the order of the data flow, so that no step launches another."""
    prompt_models.check_rows(step, rows.read(step.config))
    kinds = Measurements.inputs(step.config)
    step.ensure_all(*kinds)
    return [compared_models.ensure_model(step, kind) for kind in kinds]


def _split_by_memory(
    references: Sequence[MeasuredModel], models: list[MeasuredModel]
) -> Iterator[list[MeasuredModel]]:
    """Yield groups of at least one model whose weights fit in memory beside the reference's."""
    used = sum(each.size_bytes for each in references)
    room = psutil.virtual_memory().available * _MEMORY_SHARE - used
    group: list[MeasuredModel] = []
    for model in models:
        if group and sum(each.size_bytes for each in [*group, model]) > room:
            yield group
            group = []
        group.append(model)
    yield group


def _log(context: SweepContext, point: Point, measured: Sequence[Measurement]) -> None:
    """Log a point's measurement as a run of the step `measure`."""
    completed = run_in_process(
        Measurements.step,
        lambda step: log_measurements(step, measured),
        point.overrides,
        context,
        run_name=f"measure {step_parts.point_name(point.config, point.swept)}",
        read=lambda overrides: (overrides, point.config),
    )
    completed.raise_if_interrupted()


def _merge_overrides(points: Sequence[Point]) -> list[str]:
    """Return overrides with all values that the points have for each key."""
    merged = []
    for same_key in zip(*(point.overrides for point in points), strict=True):
        key = same_key[0].partition("=")[0]
        values = dict.fromkeys(override.partition("=")[2] for override in same_key)
        merged.append(f"{key}={','.join(values)}")
    return merged
