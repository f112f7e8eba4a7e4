"""The answer of a sweep: which points no other beats, which is the best, and how to register it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from slmflow.config.compose import Config
from slmflow.metrics.evaluation_inputs import columns
from slmflow.sweeps import goals
from slmflow.sweeps.goals import Goal, Limit
from slmflow.sweeps.outcomes import Measured


@dataclass(frozen=True)
class Answer:
    """What a sweep found: its points, those on the front, and the best, if one keeps the limits."""

    measured: tuple[Measured, ...]
    objective: tuple[Goal, ...]
    front: tuple[Goal, ...]
    limits: tuple[Limit, ...]
    on_front: tuple[Measured, ...]
    best: Measured | None


def find(measured: Sequence[Measured], config: Config) -> Answer:
    """Return the answer that `sweep.objective`, `sweep.front` and `sweep.constraints` ask for.

    Of points that are level in all goals the first is the best.
    """
    known = columns(config)
    objective = goals.goals(config.sweep.objective, known)
    front = goals.goals(config.sweep.front, known)
    limits = goals.limits(config.sweep.constraints, known)
    flags = goals.front([each.figures for each in measured], front)
    kept = [each for each in measured if all(limit.keeps(each.figures) for limit in limits)]
    best = max(
        kept, key=lambda each: [goal.worth(each.figures) for goal in objective], default=None
    )
    return Answer(
        measured=tuple(measured),
        objective=tuple(objective),
        front=tuple(front),
        limits=tuple(limits),
        on_front=tuple(each for each, flag in zip(measured, flags, strict=True) if flag),
        best=best,
    )


def sentence(answer: Answer, config: Config, experiment_id: str) -> str:
    """Return the line that names the best point, with the command that registers it."""
    best = answer.best
    if best is None:
        return f"no point keeps sweep.constraints={config.sweep.constraints}: there is no best one"
    figures = ", ".join(
        f"{goal.column} {best.converted.written(goal.column)}" for goal in answer.objective
    )
    return (
        f"best of {len(answer.measured)} points: {best.point.name} ({figures}). To register it: "
        f"{_command(best, experiment_id)}"
    )


def _command(best: Measured, experiment_id: str) -> str:
    kept = [each for each in best.point.overrides if not each.startswith(("sweep=", "sweep."))]
    given = [*kept, f"registry.flavor={best.converted.flavor}"]
    options = [part for each in given for part in ("-P", shlex.quote(each))]
    # MLflow's own default needs no naming.
    experiment = [] if experiment_id == "0" else ["--experiment-id", experiment_id]
    line = ["mlflow", "run", ".", "--env-manager", "uv", "-e", "register", *experiment, *options]
    return " ".join(line)
