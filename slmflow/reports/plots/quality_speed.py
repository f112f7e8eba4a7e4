"""Quality against speed: one point per model, with confidence intervals in both directions."""

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from slmflow.metrics.model_metrics import ModelMetrics
from slmflow.reports.formatting import format_metric
from slmflow.reports.plots.style import (
    FAINT,
    INK,
    RULE,
    keep_spines,
    pair_with_colors,
    set_heading,
    shorten,
)

_SPEED = "latency_ms_p50"

# Beyond this ratio, a linear axis would crowd the fast models together.
_MIN_LOG_RATIO = 3
# Keeps a small difference from looking large.
_MIN_QUALITY_SPAN = 0.1


def draw(axes: Axes, models: Sequence[ModelMetrics]) -> None:
    """Draw accuracy, or exact match without choices, over the median latency.

    A model that lacks either metric has no point.
    """
    set_heading(axes, "Quality against speed", "with 95 % confidence intervals")
    has_accuracy = any(model.accuracy is not None for model in models)
    quality = "accuracy" if has_accuracy else "exact_match"
    points = [
        (model, color)
        for model, color in pair_with_colors(models)
        if model.value(quality) is not None and model.value(_SPEED)
    ]
    keep_spines(axes, "left", "bottom")
    axes.set_xlabel("median latency of an answer, ms", fontsize=9, color=FAINT)
    axes.set_ylabel(quality.replace("_", " "), fontsize=9, color=FAINT)
    if not points:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=INK)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    drawn = [model for model, _ in points]
    _scale_speed(axes, [bound for model in drawn for bound in _bounds(model, _SPEED)])
    _scale_quality(axes, [bound for model in drawn for bound in _bounds(model, quality)])
    axes.grid(color=RULE, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    for index, (model, color) in enumerate(points):
        _draw_point(axes, model, quality, color, label_above=index == len(points) - 1)
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


def _draw_point(
    axes: Axes, model: ModelMetrics, quality: str, color: str, *, label_above: bool
) -> None:
    x, y = _value(model, _SPEED), _value(model, quality)
    left, right = _bounds(model, _SPEED)
    low, high = _bounds(model, quality)
    axes.hlines(y, left, right, color=INK, linewidth=1.2)
    axes.vlines(x, low, high, color=INK, linewidth=1.2)
    axes.plot(x, y, "o", markersize=9, color=color, markeredgecolor="white", zorder=3)
    has_space = axes.transData.transform((x, y))[0] < axes.transAxes.transform((0.6, 0))[0]
    label = partial(
        axes.annotate,
        xy=(x, y),
        textcoords="offset points",
        ha="left" if has_space else "right",
        parse_math=False,
    )
    dx, dy = (10 if has_space else -10), (22 if label_above else -13)
    label(shorten(model.flavor), xytext=(dx, dy), fontsize=10, fontweight="bold", color=INK)
    values = ", ".join(format_metric(model, name).value for name in (quality, _SPEED))
    label(values, xytext=(dx, dy - 12), fontsize=9, color=FAINT)


def _scale_speed(axes: Axes, bounds: Sequence[float]) -> None:
    fast, slow = min(bounds), max(bounds)
    if slow / fast < _MIN_LOG_RATIO:
        axes.set_xlim(0, slow * 1.35)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        return
    margin = (slow / fast) ** 0.25
    axes.set_xscale("log")
    axes.set_xlim(fast / margin, slow * margin)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _scale_quality(axes: Axes, bounds: Sequence[float]) -> None:
    low, high = min(bounds), max(bounds)
    span = max(high - low, _MIN_QUALITY_SPAN)
    low = max(0.0, min(low, high - span))
    axes.set_ylim(low - 0.3 * span, max(high, low + span) + 0.45 * span)
    ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5]).tick_values(low, low + span)
    axes.set_yticks(
        [tick for tick in ticks if -1e-9 <= tick <= 1 + 1e-9 and tick >= low - span / 5]
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))


def _value(model: ModelMetrics, name: str) -> float:
    return float(model.value(name) or 0)


def _bounds(model: ModelMetrics, name: str) -> tuple[float, float]:
    return model.intervals.get(name, (_value(model, name),) * 2)
