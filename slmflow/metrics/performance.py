"""Latency, throughput, memory and size of a measured model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from slmflow.measurement.records import Measurement, Timing
from slmflow.metrics import uncertainty
from slmflow.metrics.uncertainty import Array


@dataclass(frozen=True)
class Performance:
    """Metric values by column, and the 95 % confidence intervals of some of them."""

    values: dict[str, float | None]
    intervals: dict[str, tuple[float, float]]


def compute_performance(measurement: Measurement) -> Performance:
    """Return the performance of a model; a value is None if it was not measured.

    Tokens per second are the tokens of all timed rows divided by their seconds. The seconds
    after the first token of a single row are the difference of two requests, which can be zero or
    negative by chance.
    """
    timings = measurement.timings
    first_token = _milliseconds(timing.first_token_s for timing in timings)
    latency = _milliseconds(timing.latency_s for timing in timings)
    medians = {"ttft_ms_p50": first_token, "latency_ms_p50": latency}
    rates = {"prefill_tokens_per_s": _prefill(timings), "decode_tokens_per_s": _decode(timings)}
    intervals = {
        **{name: uncertainty.median_interval(values) for name, values in medians.items()},
        **{name: _rate_interval(rows) for name, rows in rates.items()},
    }
    return Performance(
        values={
            "ttft_ms_p50": _percentile(first_token, 50),
            **latency_percentiles(timings),
            **{name: _rate(rows) for name, rows in rates.items()},
            "timed_rows": len(timings),
            "load_s": measurement.load_s,
            "peak_rss_mb": to_megabytes(measurement.peak_rss_bytes),
            "model_size_mb": to_megabytes(measurement.model.size_bytes),
        },
        intervals={name: bounds for name, bounds in intervals.items() if bounds is not None},
    )


def latency_percentiles(timings: Sequence[Timing]) -> dict[str, float | None]:
    """Return the latency percentiles by column, in milliseconds; None without timings."""
    latency = _milliseconds(timing.latency_s for timing in timings)
    return {f"latency_ms_p{q}": _percentile(latency, q) for q in (50, 95, 99)}


def to_megabytes(size: int | None) -> float | None:
    """Convert bytes to megabytes (10^6 bytes)."""
    return None if size is None else size * 1e-6


def _prefill(timings: Sequence[Timing]) -> Array:
    """Return prompt tokens and seconds to the first token of each row that reports both."""
    return _complete((timing.prompt_tokens, timing.first_token_s) for timing in timings)


def _decode(timings: Sequence[Timing]) -> Array:
    """Return tokens and seconds after the first token of each row that reports both."""
    return _complete(
        (timing.completion_tokens - 1, timing.latency_s - timing.first_token_s)
        for timing in timings
        if timing.completion_tokens and timing.first_token_s is not None
    )


def _complete(rows: Iterable[tuple[float | None, float | None]]) -> Array:
    return np.array([row for row in rows if None not in row], dtype=np.float64).reshape(-1, 2)


def _rate(rows: Array) -> float | None:
    """Return the sum of tokens divided by the sum of seconds; None if either is not positive."""
    tokens, seconds = rows.sum(axis=0)
    return float(tokens / seconds) if tokens > 0 and seconds > 0 else None


def _rate_interval(rows: Array) -> tuple[float, float] | None:
    """Return the interval of a rate; None if it reaches zero, where the rate is all noise."""
    if _rate(rows) is None:
        return None
    interval = uncertainty.confidence_interval(rows, uncertainty.mean, is_share=False)
    return interval if interval and interval[0] > 0 else None


def _milliseconds(seconds: Iterable[float | None]) -> Array:
    return np.array([value * 1e3 for value in seconds if value is not None])


def _percentile(values: Array, q: float) -> float | None:
    """Return the `q`-th percentile (0 to 100, linear interpolation); None without values."""
    return float(np.percentile(values, q)) if len(values) else None
