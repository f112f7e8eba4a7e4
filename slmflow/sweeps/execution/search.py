"""Search the points with Optuna, which samples the next ones from the results so far.

Hydra's plugin for Optuna needs a version of 2022; this uses Optuna's ask-and-tell interface. The
sampler has a fixed seed: a search that is started again samples the same points and reuses them.
"""

from collections.abc import Sequence

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from slmflow.config.schema.sweep import Search, Sweep
from slmflow.sweeps import outcomes, points
from slmflow.sweeps.context import SweepContext
from slmflow.sweeps.execution import launchers
from slmflow.sweeps.goals import Goal
from slmflow.sweeps.points import Point
from slmflow.sweeps.pruning import Pruner


def run_trials(
    overrides: Sequence[str], context: SweepContext, sweep: Sweep, goals: Sequence[Goal]
) -> list[Point]:
    """Run `sweep.trials` points that Optuna samples, and return the distinct ones.

    goals: one, or the two of a Pareto front; then points that cannot reach it are pruned.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        directions=["maximize"] * len(goals), sampler=optuna.samplers.TPESampler(seed=0)
    )
    space = search_space(overrides)
    sampled: dict[str, Point] = {}
    concurrency = launchers.concurrency(sweep)
    for first in range(0, sweep.trials, concurrency):
        trials = [study.ask(space) for _ in range(min(concurrency, sweep.trials - first))]
        chosen = [points.with_values(overrides, _format(trial.params)) for trial in trials]
        new = {point.name: point for point in chosen if point.name not in sampled}
        if new:
            measured = outcomes.gather(list(sampled.values()), context).measured
            metrics = {each.point.name: each.metrics for each in measured}
            pruner = Pruner(tuple(goals), metrics) if sweep.search is Search.front else None
            launchers.launch(list(new.values()), context, sweep, pruner)
        sampled |= new
        scores = _scores(outcomes.gather(chosen, context), goals)
        for trial, point in zip(trials, chosen, strict=True):
            if point.name in scores:
                study.tell(trial, scores[point.name])
            else:
                study.tell(trial, state=TrialState.FAIL)
    return list(sampled.values())


def _scores(results: outcomes.Outcomes, goals: Sequence[Goal]) -> dict[str, list[float]]:
    """Return the score in each goal by point; a pruned point scores with its bounds."""
    metrics = {each.point.name: each.metrics for each in results.measured} | results.pruned
    return {
        name: [goal.score(known) for goal in goals]
        for name, known in metrics.items()
        if all(goal.is_measured(known) for goal in goals)
    }


def search_space(overrides: Sequence[str]) -> dict[str, BaseDistribution]:
    """Return the distribution of each swept key: its values, or a number in its interval."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {each.key_or_group: _distribution(each) for each in parsed if each.is_sweep_override()}


def _distribution(override: Override) -> BaseDistribution:
    value = override.value()
    if isinstance(value, IntervalSweep):
        low, high = float(value.start or 0), float(value.end or 0)
        return FloatDistribution(low, high, log="log" in value.tags)
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def _format(params: dict[str, object]) -> dict[str, str]:
    return {k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in params.items()}
