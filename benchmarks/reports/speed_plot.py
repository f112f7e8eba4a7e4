"""Draw a speed measurement: a panel per figure, a group of bars per length of prompt."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Page
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from benchmarks.harness.series import FIGURES, Figure, middle
from benchmarks.reports.speed_report import Report

_COLORS = {
    "slmflow": "#0d9488",
    "builder": "#94a3b8",
    "transformers": "#fbbf24",
    "llama_cpp": "#6366f1",
}
_INK, _FAINT = "#0f172a", "#64748b"


def draw(report: Report) -> Page:
    """Return the figure, 12 x 4.2 inches; what was not measured has no bar."""
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)
    page = Page(figsize=(12, 4.2), dpi=150, layout=layout, facecolor="white")
    page.suptitle(report.title, x=0.0125, ha="left", fontsize=15, fontweight="bold", color=_INK)
    page.legend(
        handles=[Patch(color=_COLORS[engine], label=engine) for engine in report.engines],
        loc="outside upper right",
        ncols=len(report.engines),
        frameon=False,
        fontsize=11,
        labelcolor=_INK,
    )
    for axes, figure in zip(page.subplots(1, len(FIGURES)), FIGURES, strict=True):
        hint = "more is better" if figure.more_is_better else "less is better"
        name = figure.name[0].upper() + figure.name[1:]
        axes.set_title(f"{name}\n", loc="left", fontsize=11, fontweight="bold", color=_INK)
        axes.text(0, 1.03, hint, transform=axes.transAxes, fontsize=9, color=_FAINT)
        _bars(axes, report, figure)
    return page


def _bars(axes: Axes, report: Report, figure: Figure) -> None:
    lengths, engines = report.prompt_lengths, report.engines
    width = 0.84 / len(engines)
    for i, engine in enumerate(engines):
        for group, length in enumerate(lengths):
            series = report.of(engine, length)
            if series is None or (value := middle(figure.values(series))) is None:
                continue
            place = group + (i - (len(engines) - 1) / 2) * width
            bar = axes.bar(place, value, width * 0.92, color=_COLORS[engine])
            axes.bar_label(bar, fmt="{:,.0f}", padding=3, fontsize=9, color=_INK)
    axes.set_xticks(range(len(lengths)), [f"prompt of {length} tokens" for length in lengths])
    axes.set_xlim(-0.6, len(lengths) - 0.4)
    axes.margins(y=0.12)
    axes.set_ylim(bottom=0)
    axes.set_yticks([])
    axes.tick_params(length=0, labelsize=9, labelcolor=_FAINT)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color("#cbd5e1")
