"""What `drift` compares, and how much it may differ: `drift.*`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from slmflow.config.schema.fields import Kind, config_key
from slmflow.config.schema.traces import selection_problems

_LENGTHS = {
    f"{name}_{end}": f"{what}: {meaning}"
    for name, what in (
        ("prompt_tokens", "tokens of the prompt"),
        ("output_tokens", "tokens of the answer"),
        ("latency_ms", "time to the whole answer"),
    )
    for end, meaning in (
        ("p50", "median"),
        ("p95", "95th percentile"),
        ("distance", "largest difference of the shares of requests below a value, 0 to 1"),
    )
}

FIGURES = {
    **_LENGTHS,
    "ttft_ms_p50": "time to the first token: median",
    "error_share": "share of requests that the server failed to answer, of those not rejected",
    "rejected_share": "share of requests that were rejected, for a fault of the request",
    "refusal_share": "share of answers that begin with a refusal",
    "exact_match": "share of answers equal to the right one",
    "token_f1": "mean token F1 of answers and right ones",
}
"""The figures, each with its meaning."""


@dataclass
class DriftLimit:
    """How much a figure may differ from that at registration; null sets no limit."""

    max_ratio: float | None = config_key(Kind.value, "how many times as high it may be", None)
    min_ratio: float | None = config_key(Kind.value, "how many times as high it must be", None)
    max_rise: float | None = config_key(Kind.value, "how much higher it may be", None)
    max_drop: float | None = config_key(Kind.value, "how much lower it may be", None)

    def problems(self, key: str) -> Iterator[str]:
        """Yield one message for each invalid value."""
        for name in ("max_ratio", "min_ratio", "max_rise", "max_drop"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                yield f"{key}.{name}={value}: must be a number of at least 0, or null for no limit"


@dataclass
class Drift:
    """Comparison of the newest served requests with the version's figures at registration."""

    model_uri: str = config_key(
        Kind.model_uri, "a version, models:/NAME@ALIAS; `registered` is that of `registry.alias`"
    )
    experiment: str | None = config_key(
        Kind.text, "experiment with the traces, by name; null is that of the run", None
    )
    last: int = config_key(Kind.value, "how many requests to compare, the newest", 500)
    since: str | None = config_key(
        Kind.text, "the oldest: a date, a time with its zone, or 7d or 12h ago; null is any", None
    )
    least: int = config_key(Kind.value, "fewest requests that tell anything", 50)
    refusals: list[str] = config_key(
        Kind.list, "how a refusal begins, in any case of its letters", list
    )
    limits: dict[str, DriftLimit] = field(default_factory=dict)

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        if not self.model_uri:
            yield "drift.model_uri is empty: give models:/NAME@ALIAS, or registered"
        yield from selection_problems("drift", self.last, self.since)
        if not 1 <= self.least <= max(self.last, 1):
            yield f"drift.least={self.least}: must be 1 to drift.last={self.last}"
        for number, text in enumerate(self.refusals):
            if not text.strip():
                yield f"drift.refusals: item {number} is blank: leave it out"
        for figure, limit in self.limits.items():
            if figure not in FIGURES:
                yield f"drift.limits.{figure}: no figure; there are {', '.join(FIGURES)}"
            yield from limit.problems(f"drift.limits.{figure}")
