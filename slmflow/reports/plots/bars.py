"""Bar plots: one bar per model and metric, with confidence intervals where they exist."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from numpy.typing import NDArray

from slmflow.metrics.model_metrics import ModelMetrics, is_higher_better
from slmflow.reports.formatting import format_metric
from slmflow.reports.plots.style import INK, keep_spines, pair_with_colors, set_heading, shorten

_QUALITY = {
    "exact_match": "exact match",
    "contains": "contains",
    "token_f1": "token F1",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
}
_PERCENTAGES = ("bleu",)


def draw(
    axes: Axes, models: Sequence[ModelMetrics], heading: str, metrics: Mapping[str, str]
) -> None:
    """Draw vertical bars; a metric that was not measured has a label instead of its bar.

    metrics: the label of each metric; higher must be better for all of them or for none.
    """
    is_better = all(map(is_higher_better, metrics))
    set_heading(axes, heading, "higher is better" if is_better else "lower is better")
    for model, bars in _bars(axes.bar, "yerr", models, list(metrics), fill=0.92):
        labels = [_label(model, name, "not\nmeasured") for name in metrics]
        axes.bar_label(bars, labels, padding=3, fontsize=9, color=INK)
    margin = 0.75 if len(metrics) == 1 else 0.5
    axes.set_xlim(-margin, len(metrics) - 1 + margin)
    axes.margins(y=0.15)
    axes.set_ylim(bottom=0)  # also if no bar has a height
    axes.set_yticks([])
    axes.set_xticks(range(len(metrics)), list(metrics.values()))
    keep_spines(axes, "bottom")


def draw_quality(axes: Axes, models: Sequence[ModelMetrics]) -> None:
    """Draw the quality metrics as horizontal bars on one scale from 0 to 1.

    BLEU is divided by 100. Of the user's metrics, only those whose values and bounds are all
    between 0 and 1 are drawn.
    """
    set_heading(axes, "Quality", "higher is better; with 95 % confidence intervals")
    has_accuracy = any(model.accuracy is not None for model in models)
    metrics = {
        **({"accuracy": "accuracy"} if has_accuracy else {}),
        **_QUALITY,
        **{name: shorten(name) for name in models[0].user_metrics if _is_share(models, name)},
    }
    for model, bars in _bars(axes.barh, "xerr", models, list(metrics), fill=0.88):
        labels = [_label(model, name, "not measured") for name in metrics]
        axes.bar_label(bars, labels, padding=4, fontsize=9, color=INK)
    axes.set_ylim(len(metrics) - 0.5, -0.5)  # the first on top
    axes.set_xlim(0, 1.15)
    axes.set_xticks([])
    axes.set_yticks(range(len(metrics)), list(metrics.values()))
    keep_spines(axes, "left")


def _bars(
    draw_bars: Callable[..., BarContainer],
    errors: str,
    models: Sequence[ModelMetrics],
    names: Sequence[str],
    *,
    fill: float,
) -> Iterator[tuple[ModelMetrics, BarContainer]]:
    """Draw one group of bars per metric, and yield each model with its bars.

    errors: the argument of `draw_bars` for the intervals; fill: the share of a bar's space that it
    takes.
    """
    thickness = 0.8 / max(2, len(models))
    for index, (model, color) in enumerate(pair_with_colors(models)):
        positions = np.arange(len(names)) + (index - (len(models) - 1) / 2) * thickness
        lengths = [_scale(name, model.value(name) or 0) for name in names]
        options = {errors: _error_lengths(model, names, lengths)}
        bars = draw_bars(positions, lengths, thickness * fill, color=color, ecolor=INK, **options)
        yield model, bars


def _is_share(models: Sequence[ModelMetrics], name: str) -> bool:
    values = [
        value for model in models for value in (model.value(name), *model.intervals.get(name, ()))
    ]
    return all(value is not None and 0 <= value <= 1 for value in values)


def _scale(name: str, value: float) -> float:
    return value / 100 if name in _PERCENTAGES else value


def _label(model: ModelMetrics, name: str, not_measured: str) -> str:
    if model.value(name) is None:
        return not_measured
    return format_metric(model, name).value.partition(" ")[0]  # the heading has the unit


def _error_lengths(
    model: ModelMetrics, names: Sequence[str], lengths: Sequence[float]
) -> NDArray[np.float64]:
    """Return how far the intervals extend below and above the bars, of shape (2, bars)."""
    bounds = [
        [_scale(name, bound) for bound in model.intervals.get(name, ())] or [length, length]
        for name, length in zip(names, lengths, strict=True)
    ]
    extents = np.transpose(bounds) - np.array(lengths)
    return np.asarray(np.maximum(extents * [[-1], [1]], 0))
