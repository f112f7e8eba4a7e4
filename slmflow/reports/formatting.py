"""Format metric values, intervals and p-values for people; `-` marks a value not measured."""

from dataclasses import dataclass

from slmflow.metrics.model_metrics import ModelMetrics


@dataclass(frozen=True)
class Cell:
    """A formatted value with its unit, and its interval without, which may be empty."""

    value: str
    interval: str = ""

    @property
    def text(self) -> str:
        """The value with its interval, e.g. `97.4% (94.9% to 99.5%)`."""
        return f"{self.value} ({self.interval})" if self.interval else self.value


def format_cell(
    format_string: str, value: float | None, interval: tuple[float, float] | None
) -> Cell:
    """Format a value by a format string with the unit after a space."""
    if value is None:
        return Cell("-")
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
