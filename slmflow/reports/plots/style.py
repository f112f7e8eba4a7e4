"""The style of all plots: colors, names, headings and frames."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from slmflow.metrics.model_metrics import ModelMetrics

INK, FAINT, RULE = "#0f172a", "#64748b", "#cbd5e1"
GREY, TEAL = "#94a3b8", "#0d9488"
_MAX_NAME_LENGTH = 24


def pair_with_colors(models: Sequence[ModelMetrics]) -> list[tuple[ModelMetrics, str]]:
    """Return each model with its color: grey for the reference, teal for the other."""
    return list(zip(models, (GREY, TEAL)[-len(models) :], strict=True))


def shorten(name: str) -> str:
    """Shorten a name that would leave too little space for the plot."""
    return name if len(name) <= _MAX_NAME_LENGTH else f"{name[: _MAX_NAME_LENGTH - 1]}…"


def create_figure(width: float, height: float, title: str = "") -> Figure:
    """Return an empty figure of a size in inches, with any title as plain text."""
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)
    figure = Figure(figsize=(width, height), dpi=150, layout=layout, facecolor="white")
    if title:
        font = {"fontsize": 15, "fontweight": "bold", "color": INK}
        figure.suptitle(title, x=0.0125, ha="left", parse_math=False, **font)
    return figure


def set_heading(axes: Axes, heading: str, hint: str) -> None:
    """Write a panel's heading, and a faint line that explains how to read it."""
    axes.set_title(f"{heading}\n", loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.text(0, 1.03, hint, transform=axes.transAxes, fontsize=9, color=FAINT)


def keep_spines(axes: Axes, *sides: str) -> None:
    """Keep only these sides of a panel's frame, in a faint color, without tick marks."""
    axes.tick_params(length=0, labelsize=9, labelcolor=FAINT)
    for side, spine in axes.spines.items():
        spine.set_visible(side in sides)
        spine.set_color(RULE)
