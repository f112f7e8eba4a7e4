"""Search among many points with Optuna: of those asked so far the next ones follow.

Hydra's plugin for this needs Optuna below 3, of 2022; what is used here is Optuna's ask and tell.
The sampler has a seed, so a search that was ended asks the same again and finds it finished.
"""

from collections.abc import Sequence

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from slmflow.config.schema.sweep import Search, Sweep
from slmflow.sweeps import outcomes, points
from slmflow.sweeps.context import Place
from slmflow.sweeps.execution import launchers
from slmflow.sweeps.goals import Goal
from slmflow.sweeps.points import Point
from slmflow.sweeps.pruning import Front


def search(
    overrides: Sequence[str], place: Place, sweep: Sweep, wanted: Sequence[Goal]
) -> list[Point]:
    """Work on `sweep.trials` points that Optuna asks for, and return them, each once.

    wanted: one goal, or the two of a front, which a point is given up for that cannot reach it. A
    point that fails tells nothing but that.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        directions=["maximize"] * len(wanted), sampler=optuna.samplers.TPESampler(seed=0)
    )
    chosen = space(overrides)
    asked: dict[str, Point] = {}
    at_once = launchers.at_once(sweep)
    for first in range(0, sweep.trials, at_once):
        trials = [study.ask(chosen) for _ in range(min(at_once, sweep.trials - first))]
        batch = [points.at(overrides, _written(trial.params)) for trial in trials]
        new = {point.name: point for point in batch if point.name not in asked}
        if new:
            rivals = _figures(list(asked.values()), place)
            front = Front(tuple(wanted), rivals) if sweep.search is Search.front else None
            launchers.launch(list(new.values()), place, sweep, front)
        asked |= new
        found = outcomes.gather(batch, place)
        figures = {each.point.name: each.figures for each in found.measured}
        # The sampler learns of a point that was given up that it is worth no more than this.
        figures |= {each.point.name: each.best for each in found.given_up}
        for trial, point in zip(trials, batch, strict=True):
            known = figures.get(point.name, {})
            if all(goal.known(known) for goal in wanted):
                study.tell(trial, [goal.worth(known) for goal in wanted])
            else:
                study.tell(trial, state=TrialState.FAIL)
    return list(asked.values())


def _figures(points: Sequence[Point], place: Place) -> dict[str, dict[str, float]]:
    measured = outcomes.gather(points, place).measured
    return {each.point.name: each.figures for each in measured}


def space(overrides: Sequence[str]) -> dict[str, BaseDistribution]:
    """Return what each swept key can be: one of its values, or a number of its interval."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {each.key_or_group: _distribution(each) for each in parsed if each.is_sweep_override()}


def _distribution(override: Override) -> BaseDistribution:
    value = override.value()
    if isinstance(value, IntervalSweep):
        low, high = float(value.start or 0), float(value.end or 0)
        return FloatDistribution(low, high, log="log" in value.tags)
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def _written(params: dict[str, object]) -> dict[str, str]:
    return {k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in params.items()}
