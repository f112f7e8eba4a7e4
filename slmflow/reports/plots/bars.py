"""Bars: a panel per figure or a few of a kind, a bar per flavor, with intervals where there are."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from numpy.typing import NDArray

from slmflow.metrics.model_metrics import ModelMetrics, is_higher_better
from slmflow.reports.plots.style import INK, colored, frame, head, short

_QUALITY = {
    "exact_match": "exact match",
    "contains": "contains",
    "token_f1": "token F1",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
}
_OF_100 = ("bleu",)


def draw(
    axes: Axes, figures: Sequence[ModelMetrics], heading: str, columns: Mapping[str, str]
) -> None:
    """Draw upright bars; what was not measured has words in place of its bar.

    columns: what each group of bars is called; of all of them more is better, or of none.
    """
    head(
        axes, heading, "more is better" if all(map(is_higher_better, columns)) else "less is better"
    )
    for row, bars in _bars(axes.bar, "yerr", figures, list(columns), filled=0.92):
        labels = [_label(row, name, "not\nmeasured") for name in columns]
        axes.bar_label(bars, labels, padding=3, fontsize=9, color=INK)
    margin = 0.75 if len(columns) == 1 else 0.5
    axes.set_xlim(-margin, len(columns) - 1 + margin)
    axes.margins(y=0.15)
    axes.set_ylim(bottom=0)  # also where no bar has a height
    axes.set_yticks([])
    axes.set_xticks(range(len(columns)), list(columns.values()))
    frame(axes, "bottom")


def draw_quality(axes: Axes, figures: Sequence[ModelMetrics]) -> None:
    """Draw the figures of quality as lying bars on one scale from 0 to 1.

    BLEU is drawn as its hundredth. Of the user's own metrics those whose figures and bounds all lie
    between 0 and 1.
    """
    head(axes, "Quality", "more is better; with 95 % confidence intervals")
    chosen = any(row.accuracy is not None for row in figures)
    columns = {
        **({"accuracy": "accuracy"} if chosen else {}),
        **_QUALITY,
        **{name: short(name) for name in figures[0].further if _is_share(figures, name)},
    }
    for row, bars in _bars(axes.barh, "xerr", figures, list(columns), filled=0.88):
        labels = [_label(row, name, "not measured") for name in columns]
        axes.bar_label(bars, labels, padding=4, fontsize=9, color=INK)
    axes.set_ylim(len(columns) - 0.5, -0.5)  # the first on top
    axes.set_xlim(0, 1.15)
    axes.set_xticks([])
    axes.set_yticks(range(len(columns)), list(columns.values()))
    frame(axes, "left")


def _bars(
    draw: Callable[..., BarContainer],
    errors: str,
    figures: Sequence[ModelMetrics],
    names: Sequence[str],
    *,
    filled: float,
) -> Iterator[tuple[ModelMetrics, BarContainer]]:
    """Draw a bar per flavor in the group of each name, and yield each flavor with its bars.

    errors: what `draw` calls the intervals along the bars; filled: the part of a bar's room.
    """
    thickness = 0.8 / max(2, len(figures))
    for i, (row, color) in enumerate(colored(figures)):
        places = np.arange(len(names)) + (i - (len(figures) - 1) / 2) * thickness
        lengths = [_share(name, row.value(name) or 0) for name in names]
        reach = {errors: _errors(row, names, lengths)}
        yield row, draw(places, lengths, thickness * filled, color=color, ecolor=INK, **reach)


def _is_share(figures: Sequence[ModelMetrics], name: str) -> bool:
    told = [value for row in figures for value in (row.value(name), *row.intervals.get(name, ()))]
    return all(value is not None and 0 <= value <= 1 for value in told)


def _share(name: str, value: float) -> float:
    return value / 100 if name in _OF_100 else value


def _label(row: ModelMetrics, name: str, unknown: str) -> str:
    if row.value(name) is None:
        return unknown
    return row.value_written(name).partition(" ")[0]  # the unit is in the heading


def _errors(
    row: ModelMetrics, names: Sequence[str], lengths: Sequence[float]
) -> NDArray[np.float64]:
    """Return how far the intervals go below and above the bars: float64 of shape (2, bars)."""
    bounds = [
        [_share(name, bound) for bound in row.intervals.get(name, ())] or [length, length]
        for name, length in zip(names, lengths, strict=True)
    ]
    reach = np.transpose(bounds) - np.array(lengths)
    return np.asarray(np.maximum(reach * [[-1], [1]], 0))
