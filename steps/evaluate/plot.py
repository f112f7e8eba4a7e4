"""Draw the comparison: a small panel per figure, a bar per flavor."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from steps.evaluate.figures import FlavorFigures, more_is_better

_COLORS = ("#94a3b8", "#0d9488")
_INK, _FAINT = "#0f172a", "#64748b"

# Title, how a value is written, and the columns of a panel with what its groups of bars are called:
# of all of them more is better, or of none.
_PANELS = (
    (
        "Quality, with 95 % confidence intervals",
        "{:.1%}",
        {
            "exact_match": "exact match",
            "contains": "contains",
            "token_f1": "token F1",
            "rouge_l": "ROUGE-L",
        },
    ),
    ("Perplexity", "{:.3f}", {"perplexity": "expected answers"}),
    ("Time to first token, ms", "{:,.1f}", {"ttft_ms_p50": "median"}),
    (
        "Latency of an answer, ms",
        "{:,.0f}",
        {"latency_ms_p50": "median", "latency_ms_p95": "95th percentile"},
    ),
    ("Prefill, tokens/s", "{:,.0f}", {"prefill_tokens_per_s": "all rows"}),
    ("Decode, tokens/s", "{:,.0f}", {"decode_tokens_per_s": "all rows"}),
    ("Peak memory, MB", "{:,.0f}", {"peak_rss_mb": "whole process"}),
    ("Model size, MB", "{:,.1f}", {"model_size_mb": "files"}),
)


def draw(figures: Sequence[FlavorFigures], title: str) -> Figure:
    """Return the figure, 12 x 8.4 inches; what was not measured has words in place of its bar."""
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)
    page = Figure(figsize=(12, 8.4), dpi=150, layout=layout, facecolor="white")
    page.suptitle(title, x=0.0125, ha="left", fontsize=15, fontweight="bold", color=_INK)
    page.legend(
        handles=[Patch(color=c, label=r.flavor) for c, r in zip(_COLORS, figures, strict=True)],
        loc="outside upper right",
        ncols=len(figures),
        frameon=False,
        fontsize=11,
        labelcolor=_INK,
    )
    # 3 x 3 places, of which the first panel takes two.
    panels = page.subplot_mosaic([[0, 0, 1], [2, 3, 4], [5, 6, 7]]).values()
    for axes, (heading, form, columns) in zip(panels, _PANELS, strict=True):
        hint = "more is better" if all(map(more_is_better, columns)) else "less is better"
        axes.set_title(f"{heading}\n", loc="left", fontsize=11, fontweight="bold", color=_INK)
        axes.text(0, 1.03, hint, transform=axes.transAxes, fontsize=9, color=_FAINT)
        _bars(axes, figures, list(columns), form)
        axes.set_xticks(range(len(columns)), list(columns.values()))
        axes.tick_params(length=0, labelsize=9, labelcolor=_FAINT)
    return page


def _bars(axes: Axes, figures: Sequence[FlavorFigures], columns: Sequence[str], form: str) -> None:
    width = 0.8 / len(figures)
    for i, (row, color) in enumerate(zip(figures, _COLORS, strict=True)):
        values = [getattr(row, column) for column in columns]
        places = [group + (i - (len(figures) - 1) / 2) * width for group in range(len(columns))]
        heights = [value or 0 for value in values]
        bounds = zip(heights, columns, strict=True)
        errors = np.transpose([_error(row, column, height) for height, column in bounds])
        bars = axes.bar(
            places, heights, width * 0.92, color=color, yerr=errors, ecolor=_INK, capsize=0
        )
        labels = ["not\nmeasured" if value is None else form.format(value) for value in values]
        axes.bar_label(bars, labels, padding=3, fontsize=10, color=_INK)
    margin = 0.75 if len(columns) == 1 else 0.5
    axes.set_xlim(-margin, len(columns) - 1 + margin)
    axes.margins(y=0.15)
    axes.set_ylim(bottom=0)  # also where no bar has a height
    axes.set_yticks([])
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color("#cbd5e1")


def _error(row: FlavorFigures, column: str, height: float) -> tuple[float, float]:
    """Return how far the interval goes below and above the bar."""
    low, high = row.intervals.get(column, (height, height))
    return max(0.0, height - low), max(0.0, high - height)
