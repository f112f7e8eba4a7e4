"""Measure the models of several points side by side, before the points are evaluated.

The reference is loaded and asked once for all of them, and the points are compared by what was
measured in the same turns. It is a run of its own below the sweep's, with each point's measurement
below it. What is not measured here, for whatever reason, its point measures alone.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import psutil

from slmflow.checkpoints.result import Weights
from slmflow.conversion.result import OnnxModel
from slmflow.datasets import rows
from slmflow.errors import UserError
from slmflow.flavors.genai_result import GenaiModel
from slmflow.flavors.transformers_result import TransformersModel
from slmflow.measurement import execution_providers, turns, unlogged_answers
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, Measurement
from slmflow.measurement.result import Measurements
from slmflow.metrics.result import Evaluation
from slmflow.pipeline import results, runs
from slmflow.pipeline.step import Step
from slmflow.sweeps.context import SIDE_BY_SIDE, Place
from slmflow.sweeps.execution.in_process_steps import Called, call
from slmflow.sweeps.points import Point
from slmflow.sweeps.pruning import Front, Pruned

# Of the memory that is free: answering needs some too, and the file cache of the weights.
_PART_FOR_MODELS = 0.5


Faults = dict[str, UserError | Pruned]
"""Why a point, by its name, comes to no figures."""


def measure(
    points: Sequence[Point], place: Place, front: Front | None, faults: Faults
) -> Called | None:
    """Measure what is not yet measured of these points, if it is more than one.

    front: which a point is given up for that cannot reach it; then also one alone is measured.
    faults: takes what hinders a point.
    """
    by_key = {results.key_of(Measurements, point.config): point for point in points}
    with ExitStack() as locks:
        for key in sorted(by_key):
            locks.enter_context(runs.lock(Measurements, key))
        missing = {key: each for key, each in by_key.items() if _is_missing(key, each, place)}
        if len(missing) < (2 if front is None else 1):
            return None
        first, *_ = of_run = list(missing.values())
        return call(
            Measurements.step,
            lambda step: _measure(step, missing, front, faults),
            _joined(of_run),
            place,
            run_name=f"{len(missing)} side by side with the reference",
            tags={SIDE_BY_SIDE: str(len(missing))},
            read=lambda given: (given, first.config),
        )


def _is_missing(key: str, point: Point, place: Place) -> bool:
    """Return whether the flavors of a point can be measured and are not; key: of measuring them."""
    try:
        execution_providers.check(point.config.target)
    except UserError:
        return False  # the point itself says so
    if point.config.evaluation.model_uri or runs.find(Measurements, key, place.experiment_id):
        return False
    evaluation = results.key_of(Evaluation, point.config)
    return runs.find(Evaluation, evaluation, place.experiment_id) is None


def _measure(step: Step, points: Mapping[str, Point], front: Front | None, faults: Faults) -> None:
    """Measure the models of points, which are by their keys of measuring them."""
    reference: MeasuredModel | None = None
    converted: dict[MeasuredModel, str] = {}
    for key, point in points.items():
        try:
            reference, model = _models(step, point)
        except UserError as fault:
            faults[point.name] = fault
            continue
        if kept := unlogged_answers.found(key, [reference, model]):
            _log(step, key, point, kept)
        else:
            converted[model] = key
    if reference is None or not converted:
        return
    for models in _fitting(reference, list(converted)):
        try:
            told = _asked(step, [reference, *models], front)
        except Pruned as pruned:
            faults |= dict.fromkeys((points[converted[m]].name for m in models), pruned)
            continue
        reached = {converted[m]: [told[0], each] for m, each in zip(models, told[1:], strict=True)}
        for key, measured in reached.items():
            unlogged_answers.keep(key, measured)
        for key, measured in reached.items():
            _log(step, key, points[key], measured)


def _asked(
    step: Step, models: Sequence[MeasuredModel], front: Front | None
) -> tuple[Measurement, ...]:
    """Return what is measured of the models, the reference first; raise Pruned for the front."""
    questions = rows.read(step.config)

    def watch(model: MeasuredModel, answers: Sequence[Answer]) -> None:
        if front is not None and model != models[0]:
            front.check(model, answers, questions)

    return turns.measure(models, questions, step.config.evaluation.seed, watch)


def _models(step: Step, point: Point) -> list[MeasuredModel]:
    """Make sure of a point's models in the order of the data flow, so that none launches others."""
    own = dataclasses.replace(step, config=point.config, overrides=point.overrides)
    own.ensure(Weights)
    reference = own.ensure(TransformersModel)
    own.ensure(OnnxModel)
    return [MeasuredModel.of(each) for each in (reference, own.ensure(GenaiModel))]


def _fitting(
    reference: MeasuredModel, models: list[MeasuredModel]
) -> Iterator[list[MeasuredModel]]:
    """Yield the models in groups whose weights fit in memory beside the reference's, or alone."""
    room = psutil.virtual_memory().available * _PART_FOR_MODELS - reference.size_bytes
    group: list[MeasuredModel] = []
    for model in models:
        if group and sum(each.size_bytes for each in [*group, model]) > room:
            yield group
            group = []
        group.append(model)
    yield group


def _log(step: Step, key: str, point: Point, measured: Sequence[Measurement]) -> None:
    """Log what was measured as the point's own run of `measure` would."""
    logged = call(
        Measurements.step,
        lambda own: Measurements.log(own.run, key, measured),
        point.overrides,
        Place.below(step.run),
        run_name=point.name,
        read=lambda given: (given, point.config),
    )
    logged.raise_if_interrupted()


def _joined(points: Sequence[Point]) -> list[str]:
    """Return overrides that say of each key all values that these points have."""
    joined = []
    for same in zip(*(point.overrides for point in points), strict=True):
        key = same[0].partition("=")[0]
        values = dict.fromkeys(override.partition("=")[2] for override in same)
        joined.append(f"{key}={','.join(values)}")
    return joined
