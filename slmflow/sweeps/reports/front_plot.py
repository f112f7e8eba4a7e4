"""Draw the points of a sweep by two goals, quality against speed."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from slmflow.reports.plots.style import FAINT, INK, TEAL
from slmflow.sweeps.best_point import Answer
from slmflow.sweeps.goals import Goal
from slmflow.sweeps.outcomes import Measured
from slmflow.sweeps.reports.drawing import beside, heading, page, written

_COLORS = (TEAL, "#6366f1", "#f59e0b", "#ec4899", "#0ea5e9", "#84cc16", "#a855f7", "#ef4444")
_MOST_NAMED = 24


def draw(answer: Answer) -> Figure:
    """Return the figure, 10 x 6.5 inches; what was not measured in both goals is left out.

    A color for each value of the first swept key; the line joins the points that no other beats.
    """
    figure, axes = page(
        "Quality against speed: the line joins what no other point beats", (10, 6.5)
    )
    goals = answer.front
    if line := sorted(_place(each, goals) for each in answer.on_front):
        axes.plot(*zip(*line, strict=True), color=INK, linewidth=1, zorder=1)
    placed = [each for each in answer.measured if all(goal.known(each.figures) for goal in goals)]
    _points(axes, placed, goals)
    if answer.best in placed:
        ring: dict[str, Any] = {
            "s": 200,
            "facecolors": "none",
            "edgecolors": INK,
            "linewidths": 1.5,
        }
        axes.scatter(*_place(answer.best, goals), label="best", **ring)
    quality, speed = goals
    axes.set_xlabel(heading(speed), color=FAINT)
    axes.set_ylabel(heading(quality), color=FAINT)
    axes.xaxis.set_major_formatter(lambda value, _: written(speed, value))
    axes.yaxis.set_major_formatter(lambda value, _: written(quality, value))
    axes.margins(0.12)
    _end_with_the_whole(axes.xaxis, speed, placed)
    _end_with_the_whole(axes.yaxis, quality, placed)
    axes.grid(color="#e2e8f0", zorder=0)
    figure.legend(loc="outside lower left", ncols=4, frameon=False, labelcolor=INK)
    return figure


def _end_with_the_whole(axis: Axis, goal: Goal, placed: Sequence[Measured]) -> None:
    """Leave out the ticks of an axis beyond 1 where all of its figures are shares."""
    if all(0 <= each.figures[goal.column] <= 1 for each in placed):
        low, high = axis.get_view_interval()
        axis.set_ticks([tick for tick in axis.get_majorticklocs() if low <= tick <= min(high, 1)])


def _points(axes: Axes, placed: Sequence[Measured], goals: Sequence[Goal]) -> None:
    """Draw the points; beside each, unless they are many, what its color does not tell."""
    groups: dict[str, list[Measured]] = {}
    for each in placed:
        key, value = next(iter(each.point.swept.items()))
        groups.setdefault(f"{key}={value}", []).append(each)
    for position, (name, group) in enumerate(groups.items()):
        x, y = zip(*(_place(each, goals) for each in group), strict=True)
        axes.scatter(x, y, s=60, color=_COLORS[position % len(_COLORS)], label=name, zorder=2)
    for each in placed if len(placed) <= _MOST_NAMED else ():
        others = ", ".join(list(each.point.swept.values())[1:])
        beside(axes, others, _place(each, goals))


def _place(each: Measured, goals: Sequence[Goal]) -> tuple[float, float]:
    quality, speed = goals
    return each.figures[speed.column], each.figures[quality.column]
