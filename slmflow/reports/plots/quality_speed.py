"""Quality against speed: a point per flavor, with confidence intervals both ways."""

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from slmflow.metrics.model_metrics import ModelMetrics
from slmflow.reports.plots.style import FAINT, INK, RULE, colored, frame, head, short

_SPEED = "latency_ms_p50"

# Beyond this ratio a linear axis would press the fast ones together.
_LOG_FROM = 3
# A smaller difference shall not look like a large one.
_LEAST_SPAN = 0.1


def draw(axes: Axes, figures: Sequence[ModelMetrics]) -> None:
    """Draw accuracy where it was measured, else exact match, over the median latency.

    A flavor that lacks either has no point.
    """
    head(axes, "Quality against speed", "with 95 % confidence intervals")
    chosen = any(row.accuracy is not None for row in figures)
    quality = "accuracy" if chosen else "exact_match"
    points = [
        (row, color)
        for row, color in colored(figures)
        if row.value(quality) is not None and row.value(_SPEED)
    ]
    frame(axes, "left", "bottom")
    axes.set_xlabel("median latency of an answer, ms", fontsize=9, color=FAINT)
    axes.set_ylabel(quality.replace("_", " "), fontsize=9, color=FAINT)
    if not points:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=INK)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    rows = [row for row, _ in points]
    _scale_speed(axes, [bound for row in rows for bound in _bounds(row, _SPEED)])
    _scale_quality(axes, [bound for row in rows for bound in _bounds(row, quality)])
    axes.grid(color=RULE, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    for place, (row, color) in enumerate(points):
        _point(axes, row, quality, color, above=place == len(points) - 1)
    axes.annotate(
        "better",
        (0.015, 0.975),
        (0.075, 0.875),
        xycoords="axes fraction",
        fontsize=9,
        style="italic",
        color=FAINT,
        arrowprops={"arrowstyle": "-|>", "color": FAINT, "linewidth": 0.8},
    )


def _point(axes: Axes, row: ModelMetrics, quality: str, color: str, *, above: bool) -> None:
    x, y = _of(row, _SPEED), _of(row, quality)
    left, right = _bounds(row, _SPEED)
    low, high = _bounds(row, quality)
    axes.hlines(y, left, right, color=INK, linewidth=1.2)
    axes.vlines(x, low, high, color=INK, linewidth=1.2)
    axes.plot(x, y, "o", markersize=9, color=color, markeredgecolor="white", zorder=3)
    middle = axes.transData.transform((x, y))[0] < axes.transAxes.transform((0.6, 0))[0]
    label = partial(
        axes.annotate,
        xy=(x, y),
        textcoords="offset points",
        ha="left" if middle else "right",
        parse_math=False,
    )
    across, up = (10 if middle else -10), (22 if above else -13)
    label(short(row.flavor), xytext=(across, up), fontsize=10, fontweight="bold", color=INK)
    written = f"{row.value_written(quality)}, {row.value_written(_SPEED)}"
    label(written, xytext=(across, up - 12), fontsize=9, color=FAINT)


def _scale_speed(axes: Axes, bounds: Sequence[float]) -> None:
    fast, slow = min(bounds), max(bounds)
    if slow / fast < _LOG_FROM:
        axes.set_xlim(0, slow * 1.35)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        return
    reach = (slow / fast) ** 0.25
    axes.set_xscale("log")
    axes.set_xlim(fast / reach, slow * reach)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _scale_quality(axes: Axes, bounds: Sequence[float]) -> None:
    low, high = min(bounds), max(bounds)
    span = max(high - low, _LEAST_SPAN)
    low = max(0.0, min(low, high - span))
    axes.set_ylim(low - 0.3 * span, max(high, low + span) + 0.45 * span)
    ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5]).tick_values(low, low + span)
    axes.set_yticks(
        [tick for tick in ticks if -1e-9 <= tick <= 1 + 1e-9 and tick >= low - span / 5]
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))


def _of(row: ModelMetrics, name: str) -> float:
    return float(row.value(name) or 0)


def _bounds(row: ModelMetrics, name: str) -> tuple[float, float]:
    return row.intervals.get(name, (_of(row, name),) * 2)
