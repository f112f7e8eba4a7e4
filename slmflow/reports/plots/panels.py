"""The panels of the comparison: all on one page, or each as its own file."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from string import ascii_uppercase

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from slmflow.metrics.model_metrics import ModelMetrics
from slmflow.reports.plots import bars, differences, quality_speed
from slmflow.reports.plots.style import INK, create_figure, pair_with_colors, shorten

_COLUMNS = 4
_INCHES_PER_HEIGHT = 2.85

# Of a panel in its own file, so that panels align side by side.
_COLUMN_INCHES, _GAP_INCHES = 2.75, 0.2

Draw = Callable[[Axes, Sequence[ModelMetrics]], None]


@dataclass(frozen=True)
class Panel:
    """A panel that takes some of the page's 4 columns.

    inches: its height in its own file, equal for all panels of a line.
    """

    title: str
    draw: Draw
    columns: int = 1
    inches: float = 2.6


def _bar_panel(title: str, metrics: dict[str, str], columns: int = 1) -> Panel:
    return Panel(title, partial(bars.draw, heading=title, metrics=metrics), columns)


PANELS = (
    Panel("Quality against speed", quality_speed.draw, columns=2, inches=3.4),
    Panel("Quality", bars.draw_quality, columns=2, inches=3.4),
    _bar_panel("Perplexity", {"perplexity": "expected answers"}),
    _bar_panel("Time to first token, ms", {"ttft_ms_p50": "median"}),
    _bar_panel(
        "Latency of an answer, ms",
        {
            "latency_ms_p50": "median",
            "latency_ms_p95": "95th percentile",
            "latency_ms_p99": "99th percentile",
        },
        columns=2,
    ),
    _bar_panel("Prefill, tokens/s", {"prefill_tokens_per_s": "timed rows"}),
    _bar_panel("Decode, tokens/s", {"decode_tokens_per_s": "timed rows"}),
    _bar_panel("Peak memory, MB", {"peak_rss_mb": "whole process"}),
    _bar_panel("Model size, MB", {"model_size_mb": "files"}),
)

_DIFFERENCES = Panel("Difference from the reference", differences.draw, columns=4, inches=2.8)


def select(models: Sequence[ModelMetrics]) -> tuple[Panel, ...]:
    """Return the panels of a comparison: first the differences, if there is a verdict on them."""
    return (_DIFFERENCES, *PANELS) if differences.drawable(models) else PANELS


def draw_page(models: Sequence[ModelMetrics], title: str) -> Figure:
    """Return all panels on one page, 12 inches wide."""
    selected = select(models)
    heights = [*([1.1] if len(selected) > len(PANELS) else []), 1.5, 1, 1]
    page = create_figure(12, _INCHES_PER_HEIGHT * sum(heights), title)
    legend = page.legend(
        handles=[
            Patch(color=color, label=shorten(model.flavor))
            for model, color in pair_with_colors(models)
        ],
        loc="outside upper right",
        ncols=len(models),
        frameon=False,
        fontsize=11,
        labelcolor=INK,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    cells = "".join(
        letter * panel.columns for letter, panel in zip(ascii_uppercase, selected, strict=False)
    )
    lines = "\n".join(cells[first : first + _COLUMNS] for first in range(0, len(cells), _COLUMNS))
    mosaic = page.subplot_mosaic(lines, height_ratios=heights)
    for panel, axes in zip(selected, mosaic.values(), strict=True):
        panel.draw(axes, models)
    return page


def render_svg(panel: Panel, models: Sequence[ModelMetrics]) -> bytes:
    """Return a panel as SVG that needs no fonts; equal metrics give equal bytes."""
    width = _COLUMN_INCHES * panel.columns + _GAP_INCHES * (panel.columns - 1)
    figure = create_figure(width, panel.inches)
    panel.draw(figure.subplots(), models)
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "slmflow"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
