"""The gate: thresholds that the metrics of a model must meet before it is registered.

This is not `mlflow.validate_evaluation_results`. Its change against a baseline must be a gain: it
rejects a `min_absolute_change` below 0, so it cannot allow a drop. It takes one threshold per
metric, and results of `mlflow.models.evaluate`, which measures neither latency nor memory. A test
holds that both agree where both apply.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from types import MappingProxyType

from slmflow.config.schema.registry import Threshold
from slmflow.errors import UserError
from slmflow.metrics.model_metrics import (
    ModelMetrics,
    is_higher_better,
    needs_reference,
    value_of_equal_models,
)

_MAX_TEXT = 1000  # Unity Catalog's limit for the value of a tag


@dataclass(frozen=True)
class Baseline:
    """A model that `max_drop` compares with: its name in messages, and its metrics by column.

    not_comparable: the columns that are not compared, such as timings on another machine.
    """

    name: str
    metrics: Mapping[str, float]
    not_comparable: Set[str] = frozenset()


def enforce(
    gate: Mapping[str, Threshold],
    candidate: ModelMetrics,
    reason: str,
    models: Sequence[ModelMetrics],
    champion: Baseline | None,
) -> None:
    """Raise UserError, with every unmet threshold, unless the candidate passes the gate.

    reason: why this model is the candidate; models: all compared models, the reference first, or a
    single model, which then has no reference. The message names another model that would pass. It
    is not registered instead, because users rely on the ranking and would not notice the other
    flavor under the alias.
    """
    baselines = [champion] if champion else []
    if len(models) > 1:
        baselines.insert(0, Baseline(models[0].flavor, _metrics(models[0], models)))

    def violations(model: ModelMetrics) -> list[str]:
        directions = {name: c.higher_is_better for name, c in model.user_columns.items()}
        return list(find_violations(gate, _metrics(model, models), baselines, directions))

    if not (problems := violations(candidate)):
        return
    passing = [
        f"{model.flavor} would pass, but is not the candidate; to register it, set "
        f"registry.flavor={model.flavor} ({model.model_uri})"
        for model in models
        if model is not candidate and not violations(model)
    ]
    intro = (
        "the gate failed, so no version was registered: the candidate is "
        f"{candidate.flavor} ({reason}), but"
    )
    raise UserError("\n".join([intro, *problems, *passing]))


def describe(gate: Mapping[str, Threshold]) -> str:
    """Return the thresholds in one line, such as `exact_match max_drop=0.05`, or `none`."""
    limits = (
        f"{metric} {name}={limit:g}"
        for metric, threshold in gate.items()
        for name, limit in dataclasses.asdict(threshold).items()
        if limit is not None
    )
    text = ", ".join(limits) or "none"
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 3]}..."


def find_violations(
    gate: Mapping[str, Threshold],
    metrics: Mapping[str, float],
    baselines: Sequence[Baseline],
    directions: Mapping[str, bool] = MappingProxyType({}),
) -> Iterator[str]:
    """Yield one message for each threshold that the metrics, by column, do not meet.

    directions: whether higher is better, of the user's metrics. A metric that was not measured, for
    the model or for a baseline, meets no threshold.
    """
    for metric, threshold in gate.items():
        key = f"registry.gate.{metric}"
        value = metrics.get(metric)
        if value is None:
            limits = {"min": threshold.min, "max": threshold.max, "max_drop": threshold.max_drop}
            for name, limit in limits.items():
                if limit is not None:
                    yield f"{metric} was not measured: {key}.{name}={limit:g}"
            continue
        if threshold.min is not None and not _meets(value, threshold.min, is_lower_bound=True):
            yield f"{metric} is {value:.6g}: below {key}.min={threshold.min:g}"
        if threshold.max is not None and not _meets(value, threshold.max, is_lower_bound=False):
            yield f"{metric} is {value:.6g}: above {key}.max={threshold.max:g}"
        if threshold.max_drop is not None:
            higher_better = directions.get(metric, is_higher_better(metric))
            for baseline in baselines:
                yield from _drop_violation(
                    metric, value, baseline, threshold.max_drop, higher_better=higher_better
                )


def _drop_violation(
    metric: str, value: float, baseline: Baseline, max_drop: float, *, higher_better: bool
) -> Iterator[str]:
    if metric in baseline.not_comparable:
        return
    limit = f"registry.gate.{metric}.max_drop={max_drop:g}"
    before = baseline.metrics.get(metric)
    if before is None:
        yield f"{metric} is {value:.6g}: not measured for {baseline.name}, so {limit} is not met"
        return
    worst = before - max_drop if higher_better else before + max_drop
    if not _meets(value, worst, is_lower_bound=higher_better):
        yield (
            f"{metric} is {value:.6g}: worse by {abs(before - value):.6g} than {before:.6g} of "
            f"{baseline.name}, but {limit}"
        )


def _meets(value: float, bound: float, *, is_lower_bound: bool) -> bool:
    """Return whether a value meets a bound, or differs from it only by rounding."""
    meets = value > bound if is_lower_bound else value < bound
    return meets or math.isclose(value, bound, rel_tol=1e-9, abs_tol=1e-12)


def _metrics(model: ModelMetrics, models: Sequence[ModelMetrics]) -> dict[str, float]:
    """Return the measured metrics by column, for the reference with its comparison with itself.

    The comparison table omits the latter.
    """
    if model is not models[0] or len(models) == 1:
        return model.measured()
    columns = model.columns()
    itself = {
        each: value_of_equal_models(each) for each in columns if needs_reference(each, columns)
    }
    return model.measured() | itself
