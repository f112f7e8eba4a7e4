"""Format metrics, intervals, differences and p-values; `-` marks a value not measured."""

import math
from dataclasses import dataclass

from slmflow.metrics.model_metrics import SHARE, MetricColumn, ModelMetrics
from slmflow.metrics.uncertainty import Difference

_MAX_DECIMALS = 4


@dataclass(frozen=True)
class Cell:
    """A formatted value with its unit, and its interval without, which may be empty."""

    value: str
    interval: str = ""

    @property
    def text(self) -> str:
        """The value with its interval, e.g. `97.4% (94.9% to 99.5%)`."""
        return f"{self.value} ({self.interval})" if self.interval else self.value


NOT_MEASURED = Cell("-")


def format_cell(
    format_string: str, value: float | None, interval: tuple[float, float] | None
) -> Cell:
    """Format a value by a format string with the unit after a space."""
    if value is None:
        return NOT_MEASURED
    number = format_string.partition(" ")[0]
    bounds = " to ".join(number.format(bound) for bound in interval or ())
    return Cell(format_string.format(value), bounds)


def format_metric(model: ModelMetrics, name: str) -> Cell:
    """Format a metric of a model."""
    return format_cell(model.column(name).format, model.value(name), model.intervals.get(name))


def format_p_value(p_value: float | None) -> str:
    """Format a p-value with three decimals."""
    if p_value is None:
        return "-"
    return f"{p_value:.3f}" if p_value >= 0.001 else "<0.001"


def format_difference(column: MetricColumn, difference: Difference | None) -> Cell:
    """Format a difference: shares in points, a ratio in percent, others in the metric's unit."""
    if difference is None:
        return NOT_MEASURED
    value, low, high = (
        _signed((each - 1) * 100 if column.is_ratio else each * _scale(column))
        for each in (difference.value, difference.low, difference.high)
    )
    unit = " %" if column.is_ratio else " points" if column.format == SHARE else ""
    return Cell(value + unit, f"{low} to {high}")


def _scale(column: MetricColumn) -> int:
    return 100 if column.format == SHARE else 1


def _signed(value: float) -> str:
    """Format with a sign and one decimal, or more where the first digit is further right."""
    decimals = 1
    if 0 < abs(value) < 0.1:
        decimals = min(-math.floor(math.log10(abs(value))), _MAX_DECIMALS)
    text = f"{value:+,.{decimals}f}"
    return text if float(text.replace(",", "")) else "0"
