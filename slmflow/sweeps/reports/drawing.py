"""What the plots of a sweep have in common."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from slmflow.metrics.figures import MEANINGS
from slmflow.reports.plots.style import FAINT, INK
from slmflow.sweeps.goals import Goal


def page(title: str, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Return a figure of this size in inches, and its axes."""
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)
    figure = Figure(figsize=size, dpi=150, layout=layout, facecolor="white")
    figure.suptitle(title, x=0.0125, ha="left", fontsize=15, fontweight="bold", color=INK)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, labelcolor=FAINT, length=0)
    return figure, axes


def heading(goal: Goal) -> str:
    """Return what a goal is, in words."""
    hint = "more is better" if goal.more else "less is better"
    meaning = MEANINGS[goal.column]["meaning"] if goal.column in MEANINGS else "your own metric"
    return f"{goal.column}: {meaning} ({hint})"


def written(goal: Goal, value: float) -> str:
    """Return a figure as people read it."""
    form = MEANINGS[goal.column]["form"] if goal.column in MEANINGS else "{:,.4g}"
    return str(form).format(value)


def beside(axes: Axes, text: str, place: tuple[float, float]) -> None:
    """Write a text to the upper right of a place."""
    axes.annotate(text, place, xytext=(6, 4), textcoords="offset points", fontsize=9, color=FAINT)
