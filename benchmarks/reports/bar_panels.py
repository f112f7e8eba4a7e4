"""Style of the benchmark plots: a row of panels with bars."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

TEXT, _MUTED, _LINE = "#0f172a", "#64748b", "#cbd5e1"


def create_figure(title: str, height: float) -> Figure:
    """Return an empty figure with a title, 12 inches wide."""
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)
    figure = Figure(figsize=(12, height), dpi=150, layout=layout, facecolor="white")
    figure.suptitle(title, x=0.0125, ha="left", fontsize=15, fontweight="bold", color=TEXT)
    return figure


def style(axes: Axes, title: str, *, more_is_better: bool, groups: float) -> None:
    """Set title, hint, limits and colors of a panel with `groups` groups of bars."""
    axes.set_title(f"{title}\n", loc="left", fontsize=11, fontweight="bold", color=TEXT)
    hint = "more is better" if more_is_better else "less is better"
    axes.text(0, 1.03, hint, transform=axes.transAxes, fontsize=9, color=_MUTED)
    axes.set_xlim(-0.6, groups - 0.4)
    axes.margins(y=0.12)
    axes.set_ylim(bottom=0)
    axes.set_yticks([])
    axes.tick_params(length=0, labelsize=9, labelcolor=_MUTED)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(_LINE)


def label(axes: Axes, bars: Any) -> None:
    """Write the value above each bar."""
    axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=9, color=TEXT)
