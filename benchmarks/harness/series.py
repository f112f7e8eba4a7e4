"""What was measured of one engine, and how two engines' figures compare."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Series:
    """What one engine did with prompts of one length.

    prefill_s: seconds from a prompt to its first token, one per round; decode_s: seconds for
    `new_tokens` tokens after that, one per round; peak_rss_bytes: the most memory its process
    held, loading included, None where the system does not tell; idle_cpu_share: CPU seconds per
    second while the other engines had their turn.
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
class Figure:
    """A column of the measurements: its value in each round, none where it was not measured."""

    name: str
    more_is_better: bool
    values: Callable[[Series], tuple[float, ...]]


FIGURES = (
    Figure("prefill, tokens/s", True, lambda s: tuple(s.prompt_tokens / t for t in s.prefill_s)),
    Figure("decode, tokens/s", True, lambda s: tuple(s.new_tokens / t for t in s.decode_s)),
    Figure(
        "peak memory, MB",
        False,
        lambda s: () if s.peak_rss_bytes is None else (s.peak_rss_bytes / 1e6,),
    ),
)


def middle(values: Sequence[float]) -> float | None:
    """Return the median, None of nothing."""
    return median(values) if values else None


def ratio_of_medians(values: Sequence[float], baseline: Sequence[float]) -> float | None:
    """Return the median of the values over that of the baseline, None where either has none."""
    return median(values) / median(baseline) if values and baseline else None


def median_of_ratios(values: Sequence[float], baseline: Sequence[float]) -> float | None:
    """Return the median over the rounds of value over baseline, None where either has none."""
    pairs = zip(values, baseline, strict=True) if values and baseline else ()
    return middle([value / base for value, base in pairs])
