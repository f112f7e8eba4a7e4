"""The plots of a sweep: the Pareto front, and every point across parallel axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from slmflow.metrics.model_metrics import METRIC_COLUMNS
from slmflow.reports.plots.style import FAINT, GREY, INK, TEAL, create_figure
from slmflow.sweeps.goals import Goal
from slmflow.sweeps.outcomes import MeasuredPoint
from slmflow.sweeps.sweep_result import Front, SweepResult

_COLORS = (TEAL, "#6366f1", "#f59e0b", "#ec4899", "#0ea5e9", "#84cc16", "#a855f7", "#ef4444")
_MAX_LABELED = 24


def draw_front(result: SweepResult, front: Front) -> Figure:
    """Draw the points by the two goals of a front, the first upwards, 10 x 6.5 inches.

    One color per value of the first swept key; the line joins the front, the ring is the best
    point. Points that lack one of the two metrics are left out.
    """
    title = "The line joins the points that no other dominates"
    figure, axes = _figure(title, (10, 6.5))
    quality, speed = front.goals

    def position(point: MeasuredPoint) -> tuple[float, float]:
        return point.metrics[speed.column], point.metrics[quality.column]

    if line := sorted(map(position, front.points)):
        axes.plot(*zip(*line, strict=True), color=INK, linewidth=1, zorder=1)
    drawn = [p for p in result.measured if all(g.is_measured(p.metrics) for g in (quality, speed))]
    by_color: dict[str, list[MeasuredPoint]] = {}
    for point in drawn:
        key, value = next(iter(point.point.swept.items()))
        by_color.setdefault(f"{key}={value}", []).append(point)
    for index, (name, group) in enumerate(by_color.items()):
        x, y = zip(*map(position, group), strict=True)
        axes.scatter(x, y, s=60, color=_COLORS[index % len(_COLORS)], label=name, zorder=2)
    for point in drawn if len(drawn) <= _MAX_LABELED else ():
        _label(axes, ", ".join(list(point.point.swept.values())[1:]), position(point))
    if result.best in drawn:
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": INK, "linewidths": 1.5}
        axes.scatter(*position(result.best), s=200, label="best", **ring)
    axes.margins(0.12)
    for axis, goal in ((axes.xaxis, speed), (axes.yaxis, quality)):
        _describe_axis(axis, goal, [point.metrics[goal.column] for point in drawn])
    axes.grid(color="#e2e8f0", zorder=0)
    figure.legend(loc="outside lower left", ncols=4, frameon=False, labelcolor=INK)
    return figure


@dataclass(frozen=True)
class _Scale:
    """A parallel axis: the height of each point, 0 to 1 or NaN, and the text at some heights."""

    name: str
    heights: list[float]
    ticks: list[tuple[float, str]]


def draw_parallel_axes(result: SweepResult) -> Figure:
    """Draw each point as a line across an axis for each swept key and each goal.

    Higher is better on the axis of a goal. The best point is thick, the front is colored.
    """
    measured, on_a_front = result.measured, result.on_a_front
    scales = [_key_scale(key, measured) for key in measured[0].point.swept]
    goals = dict.fromkeys([*result.objective, *(g for front in result.fronts for g in front.goals)])
    scales += [_goal_scale(goal, measured) for goal in goals]
    size = (2.2 * max(4, len(scales)), 6.0)
    figure, axes = _figure("Every point; the best is thick, higher is better", size)
    lines = zip(*(scale.heights for scale in scales), strict=True)
    for point, heights in zip(measured, lines, strict=True):
        color = TEAL if point in on_a_front else GREY
        width = 3.5 if point is result.best else 1.5
        axes.plot(range(len(scales)), heights, color=color, linewidth=width, zorder=width)
    for position, scale in enumerate(scales):
        axes.axvline(position, color=INK, linewidth=0.8)
        for height, text in scale.ticks:
            _label(axes, text, (position, height))
    axes.set_xticks(range(len(scales)), [scale.name for scale in scales], color=FAINT)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.margins(x=0.08)
    return figure


def _key_scale(key: str, measured: Sequence[MeasuredPoint]) -> _Scale:
    values = [each.point.swept[key] for each in measured]
    distinct = list(dict.fromkeys(values))
    height = {value: i / max(1, len(distinct) - 1) for i, value in enumerate(distinct)}
    return _Scale(key, [height[v] for v in values], [(h, v) for v, h in height.items()])


def _goal_scale(goal: Goal, measured: Sequence[MeasuredPoint]) -> _Scale:
    known = [p.metrics[goal.column] for p in measured if goal.is_measured(p.metrics)]
    if not known:
        return _Scale(goal.column, [float("nan")] * len(measured), [(0.5, "not measured")])
    worst, best = (min(known), max(known)) if goal.maximize else (max(known), min(known))
    heights = [
        1 - (best - p.metrics[goal.column]) / (best - worst or 1.0)
        if goal.is_measured(p.metrics)
        else float("nan")
        for p in measured
    ]
    ends = {1.0: best} if best == worst else {0.0: worst, 1.0: best}
    return _Scale(goal.column, heights, [(h, _format(goal, value)) for h, value in ends.items()])


def _figure(title: str, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Return a figure of the size in inches, and its axes."""
    figure = create_figure(*size, title)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, labelcolor=FAINT, length=0)
    return figure, axes


def _describe_axis(axis: Axis, goal: Goal, values: Sequence[float]) -> None:
    """Label an axis with its goal; shares have no ticks beyond 1."""
    column = METRIC_COLUMNS.get(goal.column)
    meaning = column.meaning if column else "your own metric"
    hint = "higher is better" if goal.maximize else "lower is better"
    axis.set_label_text(f"{goal.column}: {meaning} ({hint})", color=FAINT)
    axis.set_major_formatter(lambda value, _: _format(goal, value))
    if all(0 <= value <= 1 for value in values):
        low, high = axis.get_view_interval()
        axis.set_ticks([tick for tick in axis.get_majorticklocs() if low <= tick <= min(high, 1)])


def _format(goal: Goal, value: float) -> str:
    column = METRIC_COLUMNS.get(goal.column)
    return str(column.format if column else "{:,.4g}").format(value)


def _label(axes: Axes, text: str, position: tuple[float, float]) -> None:
    """Write a text to the upper right of a position."""
    axes.annotate(
        text, position, xytext=(6, 4), textcoords="offset points", fontsize=9, color=FAINT
    )
