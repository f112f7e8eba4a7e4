"""Draw the points of a sweep: two goals against each other, and every key and goal side by side."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from steps.evaluate.figures import MEANINGS, FlavorFigures
from steps.sweep.answer import Answer
from steps.sweep.goals import Goal
from steps.sweep.outcomes import Measured

_INK, _FAINT, _FRONT, _OTHERS = "#0f172a", "#64748b", "#0d9488", "#94a3b8"
_COLORS = ("#0d9488", "#6366f1", "#f59e0b", "#ec4899", "#0ea5e9", "#84cc16", "#a855f7", "#ef4444")
_MOST_NAMED = 24


def front(answer: Answer) -> Figure:
    """Return the points by the two goals of `sweep.front`, 10 x 6.5 inches.

    A color for each value of the first swept key; the line joins the points that no other beats.
    What was not measured in both goals is left out.
    """
    quality, speed = answer.front
    page, axes = _page("What no other point is better in both of", (10, 6.5))
    key = next(iter(answer.measured[0].point.swept))
    values = list(dict.fromkeys(each.point.swept[key] for each in answer.measured))
    colors = {value: _COLORS[i % len(_COLORS)] for i, value in enumerate(values)}
    line = sorted(_place(each.converted, speed, quality) for each in answer.on_front)
    if line:
        axes.plot(*zip(*line, strict=True), color=_INK, linewidth=1, zorder=1)
    for value in values:
        group = [each for each in _placed(answer, speed, quality) if each.point.swept[key] == value]
        places = [_place(each.converted, speed, quality) for each in group]
        x, y = zip(*places, strict=True) if places else ((), ())
        axes.scatter(x, y, s=60, color=colors[value], label=f"{key}={value}", zorder=2)
    if answer.best is not None:
        axes.scatter(
            *_place(answer.best.converted, speed, quality),
            s=200,
            facecolors="none",
            edgecolors=_INK,
            linewidths=1.5,
            label="best",
        )
    _name_points(axes, _placed(answer, speed, quality), key, speed, quality)
    axes.set_xlabel(_heading(speed), color=_FAINT)
    axes.set_ylabel(_heading(quality), color=_FAINT)
    axes.margins(0.12)
    axes.grid(color="#e2e8f0", zorder=0)
    page.legend(loc="outside lower left", ncols=4, frameon=False, labelcolor=_INK)
    return page


def parallel(answer: Answer) -> Figure:
    """Return a line for each point across an axis for each swept key and each goal.

    Goals grow upwards to what is better. Thick is the best point, colored what is on the front.
    """
    keys = list(answer.measured[0].point.swept)
    wanted = list(dict.fromkeys([*answer.objective, *answer.front]))
    names = [*keys, *(goal.column for goal in wanted)]
    page, axes = _page("Every point", (2.2 * max(4, len(names)), 6))
    columns = [_spread_values([each.point.swept[key] for each in answer.measured]) for key in keys]
    columns += [_spread_worths(goal, answer.measured) for goal in wanted]
    for each, *heights in zip(answer.measured, *(heights for heights, _ in columns), strict=True):
        color = _FRONT if each in answer.on_front else _OTHERS
        width = 3.5 if each is answer.best else 1.5
        axes.plot(range(len(names)), heights, color=color, linewidth=width, zorder=width)
    for position, (_, ticks) in enumerate(columns):
        axes.axvline(position, color=_INK, linewidth=0.8)
        for height, text in ticks:
            axes.annotate(
                text, (position, height), (4, 2), textcoords="offset points", color=_INK, fontsize=9
            )
    axes.set_xticks(range(len(names)), names, color=_FAINT)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.margins(x=0.08)
    return page


def _page(title: str, size: tuple[float, float]) -> tuple[Figure, Axes]:
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)
    page = Figure(figsize=size, dpi=150, layout=layout, facecolor="white")
    page.suptitle(title, x=0.0125, ha="left", fontsize=15, fontweight="bold", color=_INK)
    axes = page.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, labelcolor=_FAINT, length=0)
    return page, axes


def _heading(goal: Goal) -> str:
    hint = "more is better" if goal.more else "less is better"
    meaning = MEANINGS[goal.column]["meaning"] if goal.column in MEANINGS else "your own metric"
    return f"{goal.column}: {meaning} ({hint})"


def _placed(answer: Answer, speed: Goal, quality: Goal) -> list[Measured]:
    wanted = {speed.column, quality.column}
    return [each for each in answer.measured if wanted <= each.converted.measured().keys()]


def _place(row: FlavorFigures, speed: Goal, quality: Goal) -> tuple[float, float]:
    figures = row.measured()
    return figures[speed.column], figures[quality.column]


def _name_points(
    axes: Axes, measured: Sequence[Measured], key: str, speed: Goal, quality: Goal
) -> None:
    """Write beside each point its values of the keys that its color does not tell."""
    if len(measured) > _MOST_NAMED:
        return
    for each in measured:
        others = [value for name, value in each.point.swept.items() if name != key]
        axes.annotate(
            ", ".join(others),
            _place(each.converted, speed, quality),
            xytext=(7, 5),
            textcoords="offset points",
            fontsize=8,
            color=_FAINT,
        )


def _spread_values(values: Sequence[str]) -> tuple[list[float], list[tuple[float, str]]]:
    """Return a height from 0 to 1 for each, and what is written at which height."""
    different = list(dict.fromkeys(values))
    step = 1 / max(1, len(different) - 1)
    heights = {value: i * step for i, value in enumerate(different)}
    return [heights[value] for value in values], [(h, value) for value, h in heights.items()]


def _spread_worths(
    goal: Goal, measured: Sequence[Measured]
) -> tuple[list[float], list[tuple[float, str]]]:
    """Return a height from 0 to 1 for each, NaN unmeasured, and what is written at both ends."""
    known = [each for each in measured if goal.column in each.converted.measured()]
    if not known:
        return [float("nan")] * len(measured), [(0.5, "not measured")]
    known.sort(key=lambda each: goal.worth(each.converted.measured()))
    low, high = (goal.worth(each.converted.measured()) for each in (known[0], known[-1]))
    width = high - low or 1.0
    worths = [goal.worth(each.converted.measured()) for each in measured]
    heights = [(worth - low) / width if worth > float("-inf") else float("nan") for worth in worths]
    ends = [(1.0, _written(known[-1], goal))]
    return heights, [(0.0, _written(known[0], goal)), *ends] if high > low else [(0.0, ends[0][1])]


def _written(each: Measured, goal: Goal) -> str:
    """Return a goal's figure as people read it, without its interval."""
    row = each.converted
    if goal.column in MEANINGS:
        return str(MEANINGS[goal.column]["form"]).format(row.measured()[goal.column])
    return f"{row.measured()[goal.column]:,.4g}"
