"""Draw every point of a sweep across parallel axes: its values and what came of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from slmflow.reports.plots.style import FAINT, GREY, INK, TEAL
from slmflow.sweeps.best_point import Answer
from slmflow.sweeps.goals import Goal
from slmflow.sweeps.outcomes import Measured
from slmflow.sweeps.reports.drawing import beside, page, written


@dataclass(frozen=True)
class _Scale:
    """One axis: the height of each point, 0 to 1 or NaN, and what is written at which height."""

    name: str
    heights: list[float]
    ticks: list[tuple[float, str]]


def draw(answer: Answer) -> Figure:
    """Return a line for each point across an axis for each swept key and each goal.

    Goals grow upwards to what is better. Thick is the best point, colored what is on the front.
    """
    scales = [_of_key(key, answer.measured) for key in answer.measured[0].point.swept]
    wanted = dict.fromkeys([*answer.objective, *answer.front])
    scales += [_of_goal(goal, answer.measured) for goal in wanted]
    size = (2.2 * max(4, len(scales)), 6.0)
    figure, axes = page("Every point; the best is thick, upwards is better", size)
    lines = zip(*(scale.heights for scale in scales), strict=True)
    for each, heights in zip(answer.measured, lines, strict=True):
        color = TEAL if each in answer.on_front else GREY
        width = 3.5 if each is answer.best else 1.5
        axes.plot(range(len(scales)), heights, color=color, linewidth=width, zorder=width)
    for position, scale in enumerate(scales):
        axes.axvline(position, color=INK, linewidth=0.8)
        for height, text in scale.ticks:
            beside(axes, text, (position, height))
    axes.set_xticks(range(len(scales)), [scale.name for scale in scales], color=FAINT)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.margins(x=0.08)
    return figure


def _of_key(key: str, measured: Sequence[Measured]) -> _Scale:
    values = [each.point.swept[key] for each in measured]
    different = list(dict.fromkeys(values))
    height = {value: i / max(1, len(different) - 1) for i, value in enumerate(different)}
    return _Scale(key, [height[v] for v in values], [(h, v) for v, h in height.items()])


def _of_goal(goal: Goal, measured: Sequence[Measured]) -> _Scale:
    known = [each.figures[goal.column] for each in measured if goal.known(each.figures)]
    if not known:
        return _Scale(goal.column, [float("nan")] * len(measured), [(0.5, "not measured")])
    worst, best = (min(known), max(known)) if goal.more else (max(known), min(known))
    heights = [
        1 - (best - each.figures[goal.column]) / (best - worst or 1.0)
        if goal.known(each.figures)
        else float("nan")
        for each in measured
    ]
    ends = {1.0: best} if best == worst else {0.0: worst, 1.0: best}
    return _Scale(goal.column, heights, [(h, written(goal, value)) for h, value in ends.items()])
