"""Compare the figures of now with those at registration, and with the limits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from slmflow.config.schema.drift import FIGURES, DriftLimit
from slmflow.monitoring import figures
from slmflow.monitoring.figures import Figures

_TOLERANCE = 1e-9

# Of fewer values, the 95th percentile lies between the two highest ones.
_FEW = 20


@dataclass(frozen=True)
class Finding:
    """A figure at registration and now, None if not known, and the limits that it exceeds."""

    figure: str
    before: float | None
    now: float | None
    exceeded: tuple[str, ...]
    is_limited: bool

    @property
    def is_compared(self) -> bool:
        """Whether both values are known."""
        return self.before is not None and self.now is not None


def compare(before: Figures, now: Figures, limits: Mapping[str, DriftLimit]) -> list[Finding]:
    """Return a finding for each figure, in the order of `FIGURES`."""
    distances = figures.distances(before, now)
    earlier = dict(before.values) | {
        name: None if value is None else 0.0 for name, value in distances.items()
    }
    later = dict(now.values) | distances
    return [
        _find(name, earlier.get(name), later.get(name), limits.get(name, DriftLimit()))
        for name in FIGURES
    ]


def not_compared(findings: Sequence[Finding], now: Figures) -> list[str]:
    """Return, for each figure with a limit that could not be compared, what is missing."""
    return [
        f"{finding.figure} ({_missing(finding, now)})"
        for finding in findings
        if finding.is_limited and not finding.is_compared
    ]


def from_few_rows(findings: Sequence[Finding], before: Figures) -> list[str]:
    """Return, for each figure that was judged by few rows of registration, how many they are."""
    rows = {
        finding.figure: before.counts.get(_sample(finding.figure), _FEW)
        for finding in findings
        if finding.is_limited and finding.is_compared
    }
    return [f"{figure} by {count}" for figure, count in rows.items() if count < _FEW]


def _sample(figure: str) -> str:
    """Return the name of what a figure is computed from, in `Figures.counts`."""
    return figure.removesuffix("_p50").removesuffix("_p95").removesuffix("_distance")


def _missing(finding: Finding, now: Figures) -> str:
    if finding.now is not None:
        return "not measured at registration"
    count = now.counts.get(finding.figure, 0)
    if finding.figure in ("exact_match", "token_f1"):
        return f"{count} requests have a right answer from people, fewer than drift.least"
    if finding.figure == "error_share":
        return f"{count} requests were not rejected, fewer than drift.least"
    if finding.figure == "refusal_share":
        return (
            f"{count} traces have the answer, fewer than drift.least; it needs "
            "serve.tracing=content"
        )
    return "the traces do not have it"


def _find(name: str, before: float | None, now: float | None, limit: DriftLimit) -> Finding:
    set_limits = (limit.max_ratio, limit.min_ratio, limit.max_rise, limit.max_drop)
    is_limited = any(each is not None for each in set_limits)
    exceeded: tuple[str, ...] = ()
    if before is not None and now is not None:
        exceeded = tuple(_exceeded(f"drift.limits.{name}", before, now, limit))
    return Finding(name, before, now, exceeded, is_limited)


def _exceeded(key: str, before: float, now: float, limit: DriftLimit) -> Iterator[str]:
    ratio = now / before if before else None
    if limit.max_ratio is not None and now > before * limit.max_ratio + _TOLERANCE:
        times = "" if ratio is None else f", {ratio:.3g} times as high"
        yield f"{key}.max_ratio={limit.max_ratio:g}{times}"
    if limit.min_ratio is not None and now < before * limit.min_ratio - _TOLERANCE:
        times = "" if ratio is None else f", {ratio:.3g} times as high"
        yield f"{key}.min_ratio={limit.min_ratio:g}{times}"
    if limit.max_rise is not None and now - before > limit.max_rise + _TOLERANCE:
        yield f"{key}.max_rise={limit.max_rise:g}, higher by {now - before:.3g}"
    if limit.max_drop is not None and before - now > limit.max_drop + _TOLERANCE:
        yield f"{key}.max_drop={limit.max_drop:g}, lower by {before - now:.3g}"
