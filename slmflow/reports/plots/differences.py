"""How the converted model differs from the reference, with the margin of the verdict."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from slmflow.metrics.model_metrics import SHARE, ModelMetrics
from slmflow.reports.formatting import format_difference
from slmflow.reports.plots.style import (
    FAINT,
    INK,
    RULE,
    TEAL,
    keep_spines,
    set_heading,
    shorten,
)

# Keeps a small difference from looking large.
_MIN_MARGINS = 1.3
_LABEL_SPACE = 1.9


def drawable(models: Sequence[ModelMetrics]) -> list[str]:
    """Return the metrics whose difference has the unit of the margin; none without a reference."""
    converted = models[-1]
    if converted.verdict is None:
        return []
    return [
        name
        for name in converted.differences
        if converted.column(name).is_ratio or converted.column(name).format == SHARE
    ]


def draw(axes: Axes, models: Sequence[ModelMetrics]) -> None:
    """Draw one point with its interval for each metric; gains are on the right, also of perplexity.

    models: the reference and the converted model, with a verdict.
    """
    reference, converted = models
    verdict, names = converted.verdict, drawable(models)
    if verdict is None:
        raise ValueError("there is no verdict")
    set_heading(
        axes,
        f"Difference from {shorten(reference.flavor)}",
        "points of shares, percent of perplexity; right is better; with 95 % confidence intervals; "
        "dashed: the margin",
    )
    margin = 100 * verdict.margin
    furthest = _MIN_MARGINS * margin
    axes.axvline(0, color=FAINT, linewidth=1)
    axes.axvline(-margin, color=FAINT, linewidth=1, linestyle="--")
    for position, name in enumerate(names):
        value, *bounds = _gains(converted, name)
        axes.hlines(position, min(bounds), max(bounds), color=INK, linewidth=1.6)
        axes.plot(value, position, "o", markersize=7, color=TEAL, markeredgecolor="white", zorder=3)
        cell = format_difference(converted.column(name), converted.differences[name])
        axes.text(
            0.995,
            position,
            cell.text,
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="center",
            fontsize=9,
            color=INK,
        )
        furthest = max(furthest, *(1.05 * abs(bound) for bound in bounds))
    axes.set_xlim(-furthest, _LABEL_SPACE * furthest)
    axes.set_xticks([tick for tick in axes.get_xticks() if abs(tick) <= furthest])
    axes.set_ylim(len(names) - 0.5, -0.6)  # the first on top
    axes.set_yticks(range(len(names)), [shorten(name.replace("_", " ")) for name in names])
    axes.grid(axis="x", color=RULE, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    keep_spines(axes, "bottom")


def _gains(model: ModelMetrics, name: str) -> tuple[float, float, float]:
    """Return value and bounds of a difference in points or percent, where more is better."""
    difference, is_ratio = model.differences[name], model.column(name).is_ratio
    value, low, high = (
        100 * (1 - each if is_ratio else each)
        for each in (difference.value, difference.low, difference.high)
    )
    return value, low, high
