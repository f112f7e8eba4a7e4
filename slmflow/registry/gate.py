"""The gate: what the figures of a flavor must be for it to be registered.

`mlflow.validate_evaluation_results` is not used: its change against a baseline must be a gain (it
refuses a `min_absolute_change` below 0, which a drop would be), a figure has one threshold, and
it takes results of `mlflow.models.evaluate`, which has no latency or memory. Where the two can say
the same they agree; a test holds that.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from slmflow.config.schema.registry import Threshold
from slmflow.errors import UserError
from slmflow.metrics.figures import NUMBERS, FlavorFigures, more_is_better

# Of what compares a flavor with the reference: shares of answers that are the same, and p-values.
_WITH_ITSELF = {
    column: 1.0
    for column in NUMBERS
    if column.endswith("_p") or column.startswith(("agreement", "shared_prefix"))
}


@dataclass(frozen=True)
class Baseline:
    """What a flavor may be only so much worse than: its name in words, its figures by column."""

    name: str
    figures: Mapping[str, float]


def hold(
    gate: Mapping[str, Threshold],
    best: FlavorFigures,
    reason: str,
    figures: Sequence[FlavorFigures],
    champion: Baseline | None,
) -> None:
    """Raise UserError, with every unmet threshold and its figure, unless the best flavor passes.

    figures: of all flavors, the reference first; reason: why this one is the best. Where another
    flavor would pass, the message says so: it is not taken instead, as it is worse by the ranking
    that the user relies on, and would come under the alias unseen.
    """
    baselines = [_reference(figures), *([champion] if champion else [])]
    if not (problems := list(unmet(gate, known(best, figures), baselines))):
        return
    passing = [
        f"{row.flavor} would pass, but is not the better flavor; it can be registered by hand: "
        f"{row.model_uri}"
        for row in figures
        if row is not best and not any(unmet(gate, known(row, figures), baselines))
    ]
    intro = f"the gate is not passed, and no version made: {best.flavor} is chosen ({reason}), but"
    raise UserError("\n".join([intro, *problems, *passing]))


def known(row: FlavorFigures, figures: Sequence[FlavorFigures]) -> dict[str, float]:
    """Return the figures of a flavor by column; those of the reference, the first, agree with it.

    The table leaves these out, as they say nothing about the reference.
    """
    return row.measured() | (_WITH_ITSELF if row is figures[0] else {})


def unmet(
    gate: Mapping[str, Threshold], figures: Mapping[str, float], baselines: Sequence[Baseline]
) -> Iterator[str]:
    """Yield each threshold that the figures, by column, do not meet, one sentence each.

    A figure that was not measured meets none, and neither does a drop from one that was not.
    """
    for metric, threshold in gate.items():
        key = f"registry.gate.{metric}"
        figure = figures.get(metric)
        limits = {"min": threshold.min, "max": threshold.max, "max_drop": threshold.max_drop}
        asked = {f"{key}.{name}": limit for name, limit in limits.items() if limit is not None}
        if figure is None:
            for name, limit in asked.items():
                yield f"{metric} was not measured: {name}={limit:g}"
            continue
        if threshold.min is not None and not _reaches(figure, threshold.min, more=True):
            yield f"{metric} is {figure:.6g}: below {key}.min={threshold.min:g}"
        if threshold.max is not None and not _reaches(figure, threshold.max, more=False):
            yield f"{metric} is {figure:.6g}: above {key}.max={threshold.max:g}"
        if threshold.max_drop is not None:
            for baseline in baselines:
                yield from _dropped(metric, figure, baseline, threshold.max_drop)


def _dropped(metric: str, figure: float, baseline: Baseline, most: float) -> Iterator[str]:
    asked = f"registry.gate.{metric}.max_drop={most:g}"
    before = baseline.figures.get(metric)
    if before is None:
        yield f"{metric} is {figure:.6g}: not measured for {baseline.name}, so {asked} is not met"
        return
    more = more_is_better(metric)
    if not _reaches(figure, before - most if more else before + most, more=more):
        yield (
            f"{metric} is {figure:.6g}: worse by {abs(before - figure):.6g} than {before:.6g} of "
            f"{baseline.name}, and {asked}"
        )


def _reaches(figure: float, limit: float, *, more: bool) -> bool:
    """Return whether a figure is on the good side of a limit, or on it but for rounding."""
    beyond = figure > limit if more else figure < limit
    return beyond or math.isclose(figure, limit, rel_tol=1e-9, abs_tol=1e-12)


def _reference(figures: Sequence[FlavorFigures]) -> Baseline:
    return Baseline(figures[0].flavor, known(figures[0], figures))
