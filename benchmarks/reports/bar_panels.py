"""Style of the benchmark plots: a row of panels with bars."""

from typing import Any

from matplotlib.axes import Axes

from slmflow.reports.plots.style import INK, keep_spines, set_heading


def style(axes: Axes, title: str, *, more_is_better: bool, groups: float) -> None:
    """Set title, hint, limits and frame of a panel with `groups` groups of bars."""
    set_heading(axes, title, "more is better" if more_is_better else "less is better")
    axes.set_xlim(-0.6, groups - 0.4)
    axes.margins(y=0.12)
    axes.set_ylim(bottom=0)
    axes.set_yticks([])
    keep_spines(axes, "bottom")


def label(axes: Axes, bars: Any) -> None:
    """Write the value above each bar."""
    axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=9, color=INK)
