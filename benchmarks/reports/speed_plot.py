"""Plot a speed measurement: one panel per metric, one group of bars per prompt length."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.harness.timings import METRICS, Metric, median_or_none
from benchmarks.reports import bar_panels
from benchmarks.reports.speed_report import Report
from slmflow.reports.plots.style import GREY, INK, TEAL, create_figure

_COLORS = {
    "slmflow": TEAL,
    "builder": GREY,
    "transformers": "#fbbf24",
    "llama_cpp": "#6366f1",
}


def draw(report: Report) -> Figure:
    """Return the figure, 12 x 4.2 inches; what was not measured has no bar."""
    figure = create_figure(12, 4.2, report.title)
    figure.legend(
        handles=[Patch(color=_COLORS[engine], label=engine) for engine in report.engines],
        loc="outside upper right",
        ncols=len(report.engines),
        frameon=False,
        fontsize=11,
        labelcolor=INK,
    )
    for axes, metric in zip(figure.subplots(1, len(METRICS)), METRICS, strict=True):
        _draw_metric(axes, report, metric)
    return figure


def _draw_metric(axes: Axes, report: Report, metric: Metric) -> None:
    lengths, engines = report.prompt_lengths, report.engines
    width = 0.84 / len(engines)
    for i, engine in enumerate(engines):
        for group, length in enumerate(lengths):
            timings = report.find_timings(engine, length)
            value = median_or_none(metric.values(timings)) if timings else None
            if value is None:
                continue
            x = group + (i - (len(engines) - 1) / 2) * width
            bar_panels.label(axes, axes.bar(x, value, width * 0.92, color=_COLORS[engine]))
    axes.set_xticks(range(len(lengths)), [f"prompt of {length} tokens" for length in lengths])
    title = metric.name[0].upper() + metric.name[1:]
    bar_panels.style(axes, title, more_is_better=metric.more_is_better, groups=len(lengths))
