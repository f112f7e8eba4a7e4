"""Plot a serving measurement: one panel per comparison, with two bars each."""

from dataclasses import dataclass
from statistics import median

from matplotlib.figure import Figure

from benchmarks.reports import bar_panels
from benchmarks.reports.serving_report import Report
from slmflow.reports.plots.style import GREY, TEAL, create_figure


@dataclass(frozen=True)
class Panel:
    """Two bars: the baseline, and what is measured."""

    title: str
    more_is_better: bool
    names: tuple[str, str]
    values: tuple[float, float]


def panels(report: Report) -> list[Panel]:
    """Return the panels, from left to right."""
    overhead, load = report.overhead, report.load
    speed = "tokens/s"
    return [
        Panel(
            f"Overhead, {speed}",
            True,
            ("bare runtime", "MLflow predict"),
            (
                overhead.new_tokens / median(overhead.bare_s),
                overhead.new_tokens / median(overhead.predict_s),
            ),
        ),
        *(
            Panel(
                f"Rows ({kind}), {speed}",
                True,
                ("one at a time", f"{batch.rows} rows"),
                (median(batch.alone_speeds), median(batch.together_speeds)),
            )
            for kind, batch in report.batches.items()
        ),
        *(
            Panel(
                f"Streams ({kind}), {speed}",
                True,
                ("1 alone", f"{len(streams.together[0].streams)} at once"),
                (median(streams.alone_speeds), median(streams.together_speeds)),
            )
            for kind, streams in report.streams.items()
        ),
        Panel(
            "Memory under load, MB",
            False,
            ("first half", "end"),
            (load.rss_half_bytes / 1e6, load.rss_end_bytes / 1e6),
        ),
    ]


def draw(report: Report) -> Figure:
    """Return the figure, 12 x 7.6 inches."""
    figure = create_figure(12, 7.6, report.title)
    drawn = panels(report)
    for axes, panel in zip(figure.subplots(2, len(drawn) // 2).flat, drawn, strict=True):
        bars = axes.bar(panel.names, panel.values, 0.7, color=(GREY, TEAL))
        bar_panels.label(axes, bars)
        bar_panels.style(
            axes, panel.title, more_is_better=panel.more_is_better, groups=len(panel.names)
        )
    return figure
