"""Timings of one engine, the metrics computed from them, and how two engines compare."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class EngineTimings:
    """Timings of one engine with prompts of one length.

    prefill_s: seconds from the prompt to the first token, one per round; decode_s: seconds for the
    `new_tokens` tokens after that, one per round; peak_rss_bytes: peak resident memory of the
    process, loading included, None if the system does not report it; idle_cpu_share: CPU seconds
    per second while the other engines ran.
    """

    engine: str
    description: str
    prompt_tokens: int
    new_tokens: int
    prefill_s: tuple[float, ...]
    decode_s: tuple[float, ...]
    peak_rss_bytes: int | None
    idle_cpu_share: float


@dataclass(frozen=True)
class Metric:
    """A metric of an engine; `values` returns one value per round, none if it was not measured."""

    name: str
    more_is_better: bool
    values: Callable[[EngineTimings], tuple[float, ...]]


METRICS = (
    Metric("prefill, tokens/s", True, lambda t: tuple(t.prompt_tokens / s for s in t.prefill_s)),
    Metric("decode, tokens/s", True, lambda t: tuple(t.new_tokens / s for s in t.decode_s)),
    Metric(
        "peak memory, MB",
        False,
        lambda t: () if t.peak_rss_bytes is None else (t.peak_rss_bytes / 1e6,),
    ),
)


def median_or_none(values: Sequence[float]) -> float | None:
    """Return the median, None if there are no values."""
    return median(values) if values else None


def ratio_of_medians(values: Sequence[float], baseline: Sequence[float]) -> float | None:
    """Return the median of the values over that of the baseline, None if either is empty."""
    return median(values) / median(baseline) if values and baseline else None


def median_of_ratios(values: Sequence[float], baseline: Sequence[float]) -> float | None:
    """Return the median over the rounds of value over baseline, None if either is empty."""
    pairs = zip(values, baseline, strict=True) if values and baseline else ()
    return median_or_none([value / base for value, base in pairs])
