"""The pictures of the comparison: all panels on one page, or each by itself."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from string import ascii_uppercase

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from slmflow.metrics.model_metrics import ModelMetrics
from slmflow.reports.plots import bars, quality_speed
from slmflow.reports.plots.style import INK, colored, short

_COLUMNS = 4

# Of a panel by itself, so that those of one row are level where they stand side by side.
_INCHES, _GAP = 2.75, 0.2

Draw = Callable[[Axes, Sequence[ModelMetrics]], None]


@dataclass(frozen=True)
class Panel:
    """A panel: what it shows, how it is drawn, how many of the page's 4 columns it takes.

    inches: its height by itself; those of one row are of one height.
    """

    shows: str
    draw: Draw
    columns: int = 1
    inches: float = 2.6


def _upright(heading: str, columns: dict[str, str], width: int = 1) -> Panel:
    draw = partial(bars.draw, heading=heading, columns=columns)
    return Panel(heading, draw, width)


PANELS = (
    Panel("Quality against speed", quality_speed.draw, columns=2, inches=3.4),
    Panel("Quality", bars.draw_quality, columns=2, inches=3.4),
    _upright("Perplexity", {"perplexity": "expected answers"}),
    _upright("Time to first token, ms", {"ttft_ms_p50": "median"}),
    _upright(
        "Latency of an answer, ms",
        {
            "latency_ms_p50": "median",
            "latency_ms_p95": "95th percentile",
            "latency_ms_p99": "99th percentile",
        },
        width=2,
    ),
    _upright("Prefill, tokens/s", {"prefill_tokens_per_s": "all rows"}),
    _upright("Decode, tokens/s", {"decode_tokens_per_s": "all rows"}),
    _upright("Peak memory, MB", {"peak_rss_mb": "whole process"}),
    _upright("Model size, MB", {"model_size_mb": "files"}),
)


def draw(figures: Sequence[ModelMetrics], title: str) -> Figure:
    """Return all panels on one page of 12 x 10 inches."""
    page = _page(12, 10)
    page.suptitle(
        title, x=0.0125, ha="left", fontsize=15, fontweight="bold", color=INK, parse_math=False
    )
    legend = page.legend(
        handles=[Patch(color=color, label=short(row.flavor)) for row, color in colored(figures)],
        loc="outside upper right",
        ncols=len(figures),
        frameon=False,
        fontsize=11,
        labelcolor=INK,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    places = "".join(
        letter * panel.columns for letter, panel in zip(ascii_uppercase, PANELS, strict=False)
    )
    rows = "\n".join(places[first : first + _COLUMNS] for first in range(0, len(places), _COLUMNS))
    mosaic = page.subplot_mosaic(rows, height_ratios=[1.5, 1, 1])
    for panel, axes in zip(PANELS, mosaic.values(), strict=True):
        panel.draw(axes, figures)
    return page


def svg(panel: Panel, figures: Sequence[ModelMetrics]) -> bytes:
    """Return one panel as an SVG file that needs no fonts, the same bytes for the same figures."""
    page = _page(_INCHES * panel.columns + _GAP * (panel.columns - 1), panel.inches)
    panel.draw(page.subplots(), figures)
    written = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "slmflow"}):
        page.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()


def _page(width: float, height: float) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)
    return Figure(figsize=(width, height), dpi=150, layout=layout, facecolor="white")
