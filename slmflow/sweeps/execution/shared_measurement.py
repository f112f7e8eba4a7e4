"""Measure the models of several points together, before the points are evaluated.

The reference is loaded and measured once for all of them, and the points are compared on answers
from the same turns. The shared measurement is a child run of the sweep, and has a child run for
each point's measurement. A point that it leaves out is measured by the point's own evaluation.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import psutil

from slmflow.datasets import rows
from slmflow.errors import UserError
from slmflow.measurement import (
    execution_providers,
    interleaved,
    prompt_models,
    unlogged_measurements,
)
from slmflow.measurement.artifact import log_measurements
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, Measurement
from slmflow.pipeline import keys, runs
from slmflow.pipeline.results import (
    Evaluation,
    GenaiModel,
    Measurements,
    OnnxModel,
    TransformersModel,
    Weights,
)
from slmflow.pipeline.step import Step
from slmflow.sweeps.context import SHARED_MEASUREMENT, SweepContext
from slmflow.sweeps.execution.in_process_steps import CompletedStep, run_in_process
from slmflow.sweeps.points import Point
from slmflow.sweeps.pruning import PointPruned, Pruner

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
    if point.config.evaluation.model_uri or runs.find_finished(
        Measurements, key, context.experiment_id
    ):
        return False
    evaluation_key = keys.key_of(Evaluation, point.config)
    return runs.find_finished(Evaluation, evaluation_key, context.experiment_id) is None


def _measure(
    step: Step,
    points: Mapping[str, Point],
    context: SweepContext,
    pruner: Pruner | None,
    failures: Failures,
) -> None:
    """Measure points, which are given by the key of their measurement."""
    below = context.below(step.run)
    reference: MeasuredModel | None = None
    converted: dict[MeasuredModel, str] = {}
    for key, point in points.items():
        try:
            reference, model = _ensure_models(step, point)
        except UserError as failure:
            failures[point.name] = failure
            continue
        if unlogged := unlogged_measurements.load(key, [reference, model]):
            _log(below, key, point, unlogged)
        else:
            converted[model] = key
    if reference is None or not converted:
        return
    for models in _split_by_memory(reference, list(converted)):
        try:
            of_reference, *others = _measure_models(step, [reference, *models], pruner)
        except PointPruned as pruned:
            failures |= dict.fromkeys((points[converted[m]].name for m in models), pruned)
            continue
        # All are saved before the first is logged: the tracking server may go away.
        measured = {converted[m]: (of_reference, o) for m, o in zip(models, others, strict=True)}
        for key, pair in measured.items():
            unlogged_measurements.save(key, pair)
        for key, pair in measured.items():
            _log(below, key, points[key], pair)


def _measure_models(
    step: Step, models: Sequence[MeasuredModel], pruner: Pruner | None
) -> tuple[Measurement, ...]:
    """Measure the models, the reference first. Raises PointPruned."""
    questions = rows.read(step.config)

    def check(model: MeasuredModel, answers: Sequence[Answer]) -> None:
        if pruner is not None and model != models[0]:
            pruner.check(model, answers, questions)

    return interleaved.measure(models, questions, step.config.evaluation.seed, check)


def _ensure_models(step: Step, point: Point) -> list[MeasuredModel]:
    """Ensure a point's models in the order of the data flow, so that no step launches another."""
    of_point = dataclasses.replace(step, config=point.config, overrides=point.overrides)
    of_point.ensure(Weights)
    prompt_models.check_rows(of_point, rows.read(point.config))
    reference = of_point.ensure(TransformersModel)
    of_point.ensure(OnnxModel)
    return [MeasuredModel.from_logged(each) for each in (reference, of_point.ensure(GenaiModel))]


def _split_by_memory(
    reference: MeasuredModel, models: list[MeasuredModel]
) -> Iterator[list[MeasuredModel]]:
    """Yield groups of at least one model whose weights fit in memory beside the reference's."""
    room = psutil.virtual_memory().available * _MEMORY_SHARE - reference.size_bytes
    group: list[MeasuredModel] = []
    for model in models:
        if group and sum(each.size_bytes for each in [*group, model]) > room:
            yield group
            group = []
        group.append(model)
    yield group


def _log(context: SweepContext, key: str, point: Point, measured: Sequence[Measurement]) -> None:
    """Log a point's measurement as a run of the step `measure`."""
    completed = run_in_process(
        Measurements.step,
        lambda step: log_measurements(step.run, key, measured),
        point.overrides,
        context,
        run_name=point.name,
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
