"""What answers cost: time and memory."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from slmflow.measurement.records import Answer, Measurement
from slmflow.metrics import uncertainty
from slmflow.metrics.uncertainty import Array


@dataclass(frozen=True)
class Performance:
    """Figures by the name of their column, and 95 % confidence intervals of some."""

    figures: dict[str, float | None]
    intervals: dict[str, tuple[float, float]]


def compute_performance(measurement: Measurement) -> Performance:
    """Return what a model's answers cost; None is a figure that was not measured.

    Tokens per second are those of all rows by the seconds of all rows: one row's seconds after its
    first token are the difference of two requests, and can be nothing or less by chance.
    """
    answers = measurement.answers
    first = _milliseconds(answer.first_token_s for answer in answers)
    whole = _milliseconds(answer.latency_s for answer in answers)
    medians = {"ttft_ms_p50": first, "latency_ms_p50": whole}
    rates = {"prefill_tokens_per_s": _prefill(answers), "decode_tokens_per_s": _decode(answers)}
    return Performance(
        figures={
            "ttft_ms_p50": _percentile(first, 50),
            **latency_percentiles(answers),
            **{name: _rate(rows) for name, rows in rates.items()},
            "load_s": measurement.load_s,
            "peak_rss_mb": to_megabytes(measurement.peak_rss_bytes),
            "model_size_mb": to_megabytes(measurement.model.size_bytes),
        },
        intervals={
            **_found({name: uncertainty.median_interval(row) for name, row in medians.items()}),
            **_found({name: _rate_interval(rows) for name, rows in rates.items()}),
        },
    )


def latency_percentiles(answers: Sequence[Answer]) -> dict[str, float | None]:
    """Return the percentiles of the latencies by column, in ms; None where there is no answer."""
    whole = _milliseconds(answer.latency_s for answer in answers)
    return {f"latency_ms_p{q}": _percentile(whole, q) for q in (50, 95, 99)}


def _prefill(answers: Sequence[Answer]) -> Array:
    """Return tokens of the prompt and seconds until the first token is out, of each row told."""
    return _told((answer.prompt_tokens, answer.first_token_s) for answer in answers)


def _decode(answers: Sequence[Answer]) -> Array:
    """Return tokens after the first and seconds after it, of each row told."""
    return _told(
        (answer.completion_tokens - 1, answer.latency_s - answer.first_token_s)
        for answer in answers
        if answer.completion_tokens and answer.first_token_s is not None
    )


def _told(rows: Iterable[tuple[float | None, float | None]]) -> Array:
    return np.array([row for row in rows if None not in row], dtype=np.float64).reshape(-1, 2)


def _rate(rows: Array) -> float | None:
    """Return the sum of the first column by that of the second; None of nothing."""
    tokens, seconds = rows.sum(axis=0)
    return float(tokens / seconds) if tokens > 0 and seconds > 0 else None


def _rate_interval(rows: Array) -> tuple[float, float] | None:
    """Return the interval of a rate; None where few rows could as well have taken no time."""
    if _rate(rows) is None:
        return None
    found = uncertainty.confidence_interval(rows, uncertainty.mean, share=False)
    return found if found and found[0] > 0 else None


def _milliseconds(seconds: Iterable[float | None]) -> Array:
    return np.array([value * 1e3 for value in seconds if value is not None])


def _percentile(values: Array, q: float) -> float | None:
    """Return the `q`-th percentile (0 to 100, linear); None of nothing."""
    return float(np.percentile(values, q)) if len(values) else None


def _found(intervals: dict[str, tuple[float, float] | None]) -> dict[str, tuple[float, float]]:
    return {name: interval for name, interval in intervals.items() if interval is not None}


def to_megabytes(size: int | None) -> float | None:
    """Return bytes in 10^6."""
    return None if size is None else size * 1e-6
