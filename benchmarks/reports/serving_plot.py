"""Draw a serving measurement: a panel per question, a bar for each of the two that are compared."""

from dataclasses import dataclass
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Page
from matplotlib.layout_engine import ConstrainedLayoutEngine

from benchmarks.reports.serving_report import Report

_BEFORE, _AFTER = "#94a3b8", "#0d9488"
_INK, _FAINT = "#0f172a", "#64748b"


@dataclass(frozen=True)
class Panel:
    """Two bars: what is compared with, and what is measured."""

    title: str
    hint: str
    names: tuple[str, str]
    values: tuple[float, float]


def panels(report: Report) -> list[Panel]:
    """Return what is drawn, from left to right."""
    overhead, load = report.overhead, report.load
    speed, more, less = "tokens/s", "more is better", "less is better"
    return [
        Panel(
            f"Overhead, {speed}",
            more,
            ("bare runtime", "MLflow predict"),
            (
                overhead.new_tokens / median(overhead.bare_s),
                overhead.new_tokens / median(overhead.predict_s),
            ),
        ),
        *(
            Panel(
                f"Rows ({kind}), {speed}",
                more,
                ("one at a time", f"{batch.rows} rows"),
                (median(batch.alone_speeds), median(batch.together_speeds)),
            )
            for kind, batch in report.batches.items()
        ),
        *(
            Panel(
                f"Streams ({kind}), {speed}",
                more,
                ("1 alone", f"{len(streams.together[0].streams)} at once"),
                (
                    median(each.tokens_per_s for each in streams.alone),
                    median(each.tokens_per_s for each in streams.together),
                ),
            )
            for kind, streams in report.streams.items()
        ),
        Panel(
            "Memory under load, MB",
            less,
            ("first half", "end"),
            (load.rss_half_bytes / 1e6, load.rss_end_bytes / 1e6),
        ),
    ]


def draw(report: Report) -> Page:
    """Return the figure, 12 x 7.6 inches."""
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)
    page = Page(figsize=(12, 7.6), dpi=150, layout=layout, facecolor="white")
    page.suptitle(report.title, x=0.0125, ha="left", fontsize=15, fontweight="bold", color=_INK)
    drawn = panels(report)
    for axes, panel in zip(page.subplots(2, len(drawn) // 2).flat, drawn, strict=True):
        axes.set_title(f"{panel.title}\n", loc="left", fontsize=11, fontweight="bold", color=_INK)
        axes.text(0, 1.03, panel.hint, transform=axes.transAxes, fontsize=9, color=_FAINT)
        _bars(axes, panel)
    return page


def _bars(axes: Axes, panel: Panel) -> None:
    bars = axes.bar(panel.names, panel.values, 0.7, color=(_BEFORE, _AFTER))
    axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=9, color=_INK)
    axes.margins(y=0.12)
    axes.set_xlim(-0.6, 1.6)
    axes.set_ylim(bottom=0)
    axes.set_yticks([])
    axes.tick_params(length=0, labelsize=9, labelcolor=_FAINT)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color("#cbd5e1")
