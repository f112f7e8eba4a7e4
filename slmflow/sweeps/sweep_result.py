"""The result of a sweep: the Pareto front, the best point, and the command that registers it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from slmflow.config.schema.config import Config
from slmflow.metrics.evaluation_inputs import numeric_columns
from slmflow.reports.formatting import format_metric
from slmflow.sweeps import goals
from slmflow.sweeps.goals import Goal
from slmflow.sweeps.outcomes import MeasuredPoint


@dataclass(frozen=True)
class Front:
    """A Pareto front: its two goals, and the points on it."""

    goals: tuple[Goal, ...]
    points: tuple[MeasuredPoint, ...]


@dataclass(frozen=True)
class SweepResult:
    """The measured points, the Pareto fronts, and the best point, if any."""

    measured: tuple[MeasuredPoint, ...]
    objective: tuple[Goal, ...]
    fronts: tuple[Front, ...]
    best: MeasuredPoint | None

    @property
    def on_a_front(self) -> list[MeasuredPoint]:
        """The points that are on any of the fronts."""
        return [p for p in self.measured if any(p in front.points for front in self.fronts)]


def select(measured: Sequence[MeasuredPoint], config: Config) -> SweepResult:
    """Select the fronts and the best point by `sweep.front`, `objective` and `constraints`.

    Of points that are equal in all goals the first is the best. A front has no constraints.
    """
    columns = numeric_columns(config)
    objective = goals.parse_goals(config.sweep.objective, columns)
    fronts = goals.parse_fronts(config.sweep.front, columns)
    constraints = goals.parse_constraints(config.sweep.constraints, columns)
    feasible = [each for each in measured if all(c.is_met(each.metrics) for c in constraints)]
    return SweepResult(
        measured=tuple(measured),
        objective=tuple(objective),
        fronts=tuple(_front(measured, front) for front in fronts),
        best=max(feasible, key=lambda p: [g.score(p.metrics) for g in objective], default=None),
    )


def _front(measured: Sequence[MeasuredPoint], front_goals: Sequence[Goal]) -> Front:
    flags = goals.pareto_front([each.metrics for each in measured], front_goals)
    on_it = (each for each, flag in zip(measured, flags, strict=True) if flag)
    return Front(tuple(front_goals), tuple(on_it))


def summary(result: SweepResult, config: Config, experiment_id: str) -> str:
    """Return the line that names the best point, with the command that registers it."""
    best = result.best
    if best is None:
        return f"no point meets sweep.constraints={config.sweep.constraints}: none is the best"
    metrics = ", ".join(
        f"{goal.column} {format_metric(best.converted, goal.column).text}"
        for goal in result.objective
    )
    return (
        f"best of {len(result.measured)} points: {best.point.name} ({metrics}). To register it: "
        f"{_register_command(best, experiment_id)}"
    )


def _register_command(best: MeasuredPoint, experiment_id: str) -> str:
    overrides = [o for o in best.point.overrides if not o.startswith(("sweep=", "sweep."))]
    overrides.append(f"registry.flavor={best.converted.flavor}")
    if best.comparison.reference is None:
        gate = best.point.config.registry.gate.items()
        drops = [metric for metric, threshold in gate if threshold.max_drop is not None]
        overrides += [f"registry.gate.{metric}.max_drop=null" for metric in drops]
    options = [part for override in overrides for part in ("-P", shlex.quote(override))]
    # Experiment 0 is MLflow's default.
    experiment = [] if experiment_id == "0" else ["--experiment-id", experiment_id]
    return " ".join(
        ["mlflow", "run", ".", "--env-manager", "uv", "-e", "register", *experiment, *options]
    )
