"""Format metric values, intervals and p-values for people; `-` marks a value not measured."""

from slmflow.metrics.model_metrics import ModelMetrics

NOT_MEASURED = "-"


def format_value(model: ModelMetrics, name: str) -> str:
    """Return a model's metric with its unit, e.g. `33.3 ms`."""
    value = model.value(name)
    return NOT_MEASURED if value is None else model.column(name).format.format(value)


def format_interval(model: ModelMetrics, name: str) -> str:
    """Return the interval of a model's metric without the unit; empty if there is none."""
    if model.value(name) is None:
        return ""
    return format_bounds(model.column(name).format, model.intervals.get(name))


def format_metric(model: ModelMetrics, name: str) -> str:
    """Return a model's metric with its unit and interval, e.g. `97.4% (94.9% to 99.5%)`."""
    value, interval = format_value(model, name), format_interval(model, name)
    return f"{value} ({interval})" if interval else value


def format_bounds(format_string: str, interval: tuple[float, float] | None) -> str:
    """Return an interval without the unit; empty if there is none."""
    if interval is None:
        return ""
    number = format_string.partition(" ")[0]
    return " to ".join(number.format(bound) for bound in interval)


def format_p_value(p_value: float | None) -> str:
    """Return a p-value with three decimals."""
    if p_value is None:
        return NOT_MEASURED
    return f"{p_value:.3f}" if p_value >= 0.001 else "<0.001"
