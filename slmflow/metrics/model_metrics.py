"""The figures of a flavor: one row of the comparison."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from slmflow.metrics.user_metrics import SUFFIXES


def _figure(
    form: str, meaning: str, also: tuple[str, ...] = (), *, more_is_better: bool = True
) -> Any:
    """Declare a figure: how it is written, what it is, the suffixes of its further columns."""
    told = {"form": form, "meaning": meaning, "also": also, "more_is_better": more_is_better}
    return dataclasses.field(metadata=told)


SHARE = "{:.1%}"
"""How a share is written."""

_BOUNDED = SUFFIXES[:2]
_TESTED = SUFFIXES


@dataclass(frozen=True)
class UserMetricInfo:
    """What a metric of the user's is, in words; `share`: its figure is a share, from 0 to 1."""

    meaning: str
    share: bool


@dataclass(frozen=True)
class ModelMetrics:
    """One row of the comparison; its fields are the columns of `comparison.json`, in order.

    None is a figure that was not measured. The unit is in the name: `_s` seconds, `_ms`
    milliseconds, `_mb` 10^6 bytes; `bleu` goes from 0 to 100, the other figures of quality from 0
    to 1. `further` are the figures of the metrics that `evaluation.metrics` names, and `own` says
    what these are. `intervals` are 95 % confidence intervals and `p_values` those of paired tests
    against the reference flavor: by metric, where there is one, and columns such as
    `exact_match_low`, `exact_match_high` and `exact_match_p`.
    """

    flavor: str
    target: str | None
    exporter: str | None
    model_uri: str
    n: int = _figure("{}", "rows of the evaluation data")
    exact_match: float | None = _figure(SHARE, "answers that are the expected text", _TESTED)
    contains: float | None = _figure(SHARE, "answers that have the expected text in them", _TESTED)
    token_f1: float | None = _figure(
        SHARE, "words shared with the expected text, F1 as in SQuAD", _TESTED
    )
    rouge_l: float | None = _figure(
        SHARE, "words in the expected text's order, ROUGE-L F measure", _TESTED
    )
    bleu: float | None = _figure("{:.1f}", "of all answers together, sacrebleu, 0 to 100", _TESTED)
    agreement: float | None = _figure(
        SHARE, "answers that are the transformers flavor's text", _BOUNDED
    )
    shared_prefix: float | None = _figure(
        SHARE, "tokens before the first that differs from the transformers flavor's", _BOUNDED
    )
    perplexity: float | None = _figure(
        "{:.3f}", "of the expected answers; 1 is certainty", _TESTED, more_is_better=False
    )
    accuracy: float | None = _figure(
        SHARE, "questions whose most likely choice is the right one", _TESTED
    )
    ttft_ms_p50: float | None = _figure(
        "{:,.1f} ms", "time to the first token, median", _BOUNDED, more_is_better=False
    )
    latency_ms_p50: float | None = _figure(
        "{:,.1f} ms", "time to the whole answer, median", _BOUNDED, more_is_better=False
    )
    latency_ms_p95: float | None = _figure(
        "{:,.1f} ms", "time to the whole answer, 95th percentile", more_is_better=False
    )
    latency_ms_p99: float | None = _figure(
        "{:,.1f} ms", "time to the whole answer, 99th percentile", more_is_better=False
    )
    prefill_tokens_per_s: float | None = _figure(
        "{:,.1f} /s", "tokens of the prompts taken in, of all rows", _BOUNDED
    )
    decode_tokens_per_s: float | None = _figure(
        "{:,.1f} /s", "tokens generated after the first, of all rows", _BOUNDED
    )
    load_s: float | None = _figure(
        "{:,.2f} s", "from files on disk to a model that can answer", more_is_better=False
    )
    peak_rss_mb: float | None = _figure(
        "{:,.0f} MB", "most memory held while it answered, Python included", more_is_better=False
    )
    model_size_mb: float | None = _figure(
        "{:,.1f} MB", "files of the MLflow model", more_is_better=False
    )
    further: dict[str, float] = dataclasses.field(default_factory=dict)
    own: dict[str, UserMetricInfo] = dataclasses.field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    p_values: dict[str, float] = dataclasses.field(default_factory=dict)

    def columns(self) -> dict[str, Any]:
        """Return the row of `comparison.json`: `COLUMNS`, then the user's own metrics."""
        row = dict.fromkeys(COLUMNS) | {name: getattr(self, name) for name in _FIELDS}
        for name, value in self.further.items():
            row |= {name: value} | {name + suffix: None for suffix in _TESTED}
        for name, (low, high) in self.intervals.items():
            row |= {f"{name}_low": low, f"{name}_high": high}
        return row | {f"{name}_p": value for name, value in self.p_values.items()}

    def measured(self) -> dict[str, float]:
        """Return the figures that were measured, `n` included, by column."""
        columns = self.columns().items()
        return {name: value for name, value in columns if isinstance(value, int | float)}

    def metrics(self) -> dict[str, float]:
        """Return them under names that tell the flavors apart, e.g. `genai.exact_match`."""
        return {f"{self.flavor}.{name}": value for name, value in self.measured().items()}

    def written(self, name: str) -> str:
        """Return a figure with its unit and interval, as people read it; `-`: not measured."""
        value = self.value(name)
        if value is None:
            return "-"
        return in_words(self._form(name), value, self.intervals.get(name))

    def value(self, name: str) -> float | None:
        """Return a figure, of slmflow's own or a metric of the user's; None: not measured."""
        found: float | None = self.further[name] if name in self.further else getattr(self, name)
        return found

    def value_written(self, name: str) -> str:
        """Return a figure with its unit as people read it; `-`: not measured."""
        value = self.value(name)
        return "-" if value is None else self._form(name).format(value)

    def interval_written(self, name: str) -> str:
        """Return a figure's interval as people read it, without the unit; empty without one."""
        if name not in self.intervals or self.value(name) is None:
            return ""
        return _bounds(self._form(name), self.intervals[name])

    def p_written(self, name: str) -> str:
        """Return the p-value of a metric as people read it; `-` is one that was not tested."""
        return p_in_words(self.p_values.get(name))

    def meaning(self, name: str) -> str:
        """Return what a figure is, in words."""
        return self.own[name].meaning if name in self.own else str(METRIC_COLUMNS[name]["meaning"])

    def _form(self, name: str) -> str:
        if name not in self.own:
            return str(METRIC_COLUMNS[name]["form"])
        return SHARE if self.own[name].share else "{:,.4g}"

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the figures that a JSON object holds."""
        intervals = {name: (low, high) for name, (low, high) in fields["intervals"].items()}
        own = {name: UserMetricInfo(**told) for name, told in fields["own"].items()}
        return cls(**fields | {"intervals": intervals, "own": own})


def in_words(form: str, value: float, interval: tuple[float, float] | None) -> str:
    """Return a figure with its unit and interval, as people read it; form: `{:.1f} ms`."""
    if interval is None:
        return form.format(value)
    return f"{form.format(value)} ({_bounds(form, interval)})"


def p_in_words(p: float | None) -> str:
    """Return a p-value as people read it; `-`: not tested."""
    return "-" if p is None else f"{p:.3f}" if p >= 0.001 else "<0.001"


METRIC_COLUMNS = {
    field.name: field.metadata for field in dataclasses.fields(ModelMetrics) if field.metadata
}
"""How each figure is written (`form`), what it is (`meaning`) and whether `more_is_better`.

In the order of the columns.
"""

_FIELDS = tuple(
    field.name
    for field in dataclasses.fields(ModelMetrics)
    if field.default_factory is dataclasses.MISSING
)

COLUMNS = (*_FIELDS, *(name + suffix for name, m in METRIC_COLUMNS.items() for suffix in m["also"]))
"""The columns of `comparison.json` but for those of the user's own metrics, in order."""

NUMERIC_COLUMNS = COLUMNS[COLUMNS.index("n") :]
"""The columns that hold a number."""


def is_higher_better(column: str) -> bool:
    """Return whether a column is better high; a p-value is, and so are the user's own metrics."""
    figure = column.removesuffix("_low").removesuffix("_high")
    return bool(METRIC_COLUMNS[figure]["more_is_better"]) if figure in METRIC_COLUMNS else True


def _bounds(form: str, interval: tuple[float, float]) -> str:
    bound = form.partition(" ")[0].format  # without the unit
    return f"{bound(interval[0])} to {bound(interval[1])}"
