"""The metrics of one model, which are one row of the comparison, and the meaning of its columns."""

import dataclasses
import functools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Self

from slmflow.metrics.uncertainty import Difference
from slmflow.metrics.verdict import Verdict

_BOUNDS = ("_low", "_high")
_DIFFERENCE, _RATIO = "_difference", "_ratio"
_COMPARISONS = (_DIFFERENCE, _RATIO)


def _suffixes(comparison: str) -> tuple[str, ...]:
    """Return the suffixes of a metric that is compared with the reference's in this way."""
    return (*_BOUNDS, "_p", comparison, *(comparison + bound for bound in _BOUNDS))


SUFFIXES = _suffixes(_DIFFERENCE)
"""What follows a metric's name in its further columns.

They are its interval, the p-value of the comparison with the reference, and the difference from the
reference with its interval.
"""

SHARE = "{:.1%}"
"""The format of a share from 0 to 1."""


@dataclass(frozen=True)
class MetricColumn:
    """A column of the comparison that holds a metric.

    format: a format string, with the unit after a space; suffixes: those of its further columns.
    """

    meaning: str
    format: str
    suffixes: tuple[str, ...] = ()
    higher_is_better: bool = True

    @property
    def is_ratio(self) -> bool:
        """Whether the metric is divided by the reference's; else that is subtracted."""
        return _RATIO in self.suffixes


@dataclass(frozen=True)
class ColumnDescription:
    """A column in the documentation; higher_is_better: None if it is not a measure of quality."""

    name: str
    meaning: str
    unit: str = ""
    higher_is_better: bool | None = None


def _column(meaning: str, format_string: str, *suffixes: str, higher_is_better: bool = True) -> Any:
    column = MetricColumn(meaning, format_string, suffixes, higher_is_better)
    return dataclasses.field(default=None, metadata={"column": column})


def _share(meaning: str, *suffixes: str) -> Any:
    return _column(meaning, SHARE, *(suffixes or SUFFIXES))


def _count(meaning: str) -> Any:
    return _column(meaning, "{:,}", higher_is_better=False)


_cost = functools.partial(_column, higher_is_better=False)


@dataclass(frozen=True)
class ModelMetrics:
    """One row of the comparison; its fields are the columns of `comparison.json`, in order.

    None is a metric that was not measured. The unit is in the name: `_s` seconds, `_ms`
    milliseconds, `_mb` 10^6 bytes. `bleu` goes from 0 to 100, the other quality metrics from 0 to
    1. `user_metrics` are the values of the metrics in `evaluation.metrics`, `user_columns` their
    columns. `intervals` (95 % confidence), and of the comparison with the reference `p_values`
    (paired tests) and `differences` are by metric, for those that have one. `precision` is that of
    the weights, such as fp32 or int4; None if it is not known. `verdict` is that on a converted
    model; its column has the outcome.
    """

    flavor: str
    target: str | None
    exporter: str | None
    precision: str | None = dataclasses.field(default=None, kw_only=True)
    verdict: Verdict | None = dataclasses.field(default=None, kw_only=True)
    model_uri: str
    n: int = dataclasses.field(metadata={"column": MetricColumn("number of rows evaluated", "{}")})
    exact_match: float | None = _share(
        "share of answers equal to the expected text, ignoring case, spaces and a final period"
    )
    exact_match_strict: float | None = _share(
        "share of answers equal to the expected text, character by character"
    )
    contains: float | None = _share("share of answers that contain the expected text")
    token_f1: float | None = _share("word overlap with the expected text, F1 as in SQuAD")
    rouge_l: float | None = _share("word sequence shared with the expected text, ROUGE-L F-measure")
    bleu: float | None = _column("BLEU of all answers by sacrebleu, 0 to 100", "{:.1f}", *SUFFIXES)
    agreement: float | None = _share("share of answers equal to those of transformers", *_BOUNDS)
    shared_prefix: float | None = _share(
        "share of tokens before the first difference from the answer of transformers", *_BOUNDS
    )
    perplexity: float | None = _cost(
        "perplexity of the expected answers; 1 is certainty", "{:.3f}", *_suffixes(_RATIO)
    )
    accuracy: float | None = _share("share of questions whose most likely choice is correct")
    not_answered: int | None = _count(
        "rows that the model could not answer; they count as wrong answers"
    )
    timed_rows: int | None = _count("rows that the times below rest on, one request at a time")
    ttft_ms_p50: float | None = _cost("median time to the first token", "{:,.1f} ms", *_BOUNDS)
    latency_ms_p50: float | None = _cost("median time to the whole answer", "{:,.1f} ms", *_BOUNDS)
    latency_ms_p95: float | None = _cost("95th percentile of the latency", "{:,.1f} ms")
    latency_ms_p99: float | None = _cost("99th percentile of the latency", "{:,.1f} ms")
    prefill_tokens_per_s: float | None = _column(
        "prompt tokens processed per second, over the timed rows", "{:,.1f} /s", *_BOUNDS
    )
    decode_tokens_per_s: float | None = _column(
        "tokens generated per second after the first token, over the timed rows",
        "{:,.1f} /s",
        *_BOUNDS,
    )
    load_s: float | None = _cost("time to load the model from local files", "{:,.2f} s")
    peak_rss_mb: float | None = _cost(
        "peak memory of the process up to its last timed request", "{:,.0f} MB"
    )
    model_size_mb: float | None = _cost("size of the MLflow model's files", "{:,.1f} MB")
    mean_kl: float | None = _cost(
        "mean KL divergence of the next-token probabilities from the original's, on held-out text",
        "{:.2g} nats",
    )
    user_metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    user_columns: dict[str, MetricColumn] = dataclasses.field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    p_values: dict[str, float] = dataclasses.field(default_factory=dict)
    differences: dict[str, Difference] = dataclasses.field(default_factory=dict)

    def columns(self) -> dict[str, Any]:
        """Return the row of `comparison.json`: `COLUMNS`, then the user's metrics."""
        row = dict.fromkeys(COLUMNS) | {name: getattr(self, name) for name in _FIELDS}
        row["verdict"] = self.verdict and self.verdict.outcome
        for name, value in self.user_metrics.items():
            row |= {name: value} | {name + suffix: None for suffix in SUFFIXES}
        for name, (low, high) in self.intervals.items():
            row |= {f"{name}_low": low, f"{name}_high": high}
        for name, each in self.differences.items():
            column = name + (_RATIO if self.column(name).is_ratio else _DIFFERENCE)
            row |= {column: each.value, f"{column}_low": each.low, f"{column}_high": each.high}
        return row | {f"{name}_p": value for name, value in self.p_values.items()}

    def measured(self) -> dict[str, float]:
        """Return the numbers that were measured, `n` included, by column."""
        columns = self.columns().items()
        return {name: value for name, value in columns if isinstance(value, int | float)}

    def mlflow_metrics(self) -> dict[str, float]:
        """Return the headlines under names with the flavor, e.g. `genai.exact_match`."""
        names = (*HEADLINES, *self.user_metrics)
        values = {name: value for name, value in self.measured().items() if name in names}
        return {f"{self.flavor}.{name}": value for name, value in values.items()}

    def value(self, name: str) -> float | None:
        """Return a metric, built in or the user's; None if it was not measured."""
        value: float | None = (
            self.user_metrics[name] if name in self.user_metrics else getattr(self, name)
        )
        return value

    def column(self, name: str) -> MetricColumn:
        """Return the column of a metric, built in or the user's."""
        return self.user_columns[name] if name in self.user_columns else METRIC_COLUMNS[name]

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the metrics in a JSON object."""
        intervals = {name: (low, high) for name, (low, high) in fields["intervals"].items()}
        user_columns = {
            name: MetricColumn(**column | {"suffixes": tuple(column["suffixes"])})
            for name, column in fields["user_columns"].items()
        }
        differences = {
            name: Difference(**difference) for name, difference in fields["differences"].items()
        }
        verdict = fields["verdict"] and Verdict.from_json(fields["verdict"])
        read = {"intervals": intervals, "user_columns": user_columns, "differences": differences}
        return cls(**fields | read | {"verdict": verdict})


METRIC_COLUMNS: dict[str, MetricColumn] = {
    field.name: field.metadata["column"]
    for field in dataclasses.fields(ModelMetrics)
    if field.metadata
}
"""The built-in metrics by name, in the order of the comparison."""

HEADLINES = (
    *("accuracy", "exact_match", "token_f1", "agreement", "perplexity", "mean_kl"),
    *("ttft_ms_p50", "latency_ms_p50", "latency_ms_p95", "decode_tokens_per_s"),
    *("peak_rss_mb", "model_size_mb"),
)
"""The metrics that runs show; `comparison.json` and the logged models have all of them."""

TIMING_COLUMNS = frozenset(
    {
        *("ttft_ms_p50", "latency_ms_p50", "latency_ms_p95", "latency_ms_p99"),
        *("prefill_tokens_per_s", "decode_tokens_per_s", "load_s", "peak_rss_mb"),
    }
)
"""The built-in metrics that depend on the machine."""

_FIELDS = tuple(
    field.name
    for field in dataclasses.fields(ModelMetrics)
    if field.default_factory is dataclasses.MISSING
)

COLUMNS = (
    *_FIELDS,
    *(name + suffix for name, column in METRIC_COLUMNS.items() for suffix in column.suffixes),
)
"""The columns of `comparison.json`, in order, without the user's metrics."""

NUMERIC_COLUMNS = COLUMNS[COLUMNS.index("n") :]
"""The columns that hold a number."""


def needs_reference(column: str, columns: Collection[str] = NUMERIC_COLUMNS) -> bool:
    """Return whether a column, one of `columns`, compares a model with the reference."""
    metric = _without_bound(column)
    return metric in ("agreement", "shared_prefix") or any(
        metric.endswith(suffix) and metric.removesuffix(suffix) in columns
        for suffix in ("_p", *_COMPARISONS)
    )


def value_of_equal_models(column: str) -> float:
    """Return the value of a column that compares two models, for a model and itself."""
    return 0.0 if _without_bound(column).endswith(_DIFFERENCE) else 1.0


def is_higher_better(column: str) -> bool:
    """Return whether a higher value is better; true of p-values and the user's metrics."""
    metric = _without_bound(column).removesuffix(_DIFFERENCE).removesuffix(_RATIO)
    return METRIC_COLUMNS[metric].higher_is_better if metric in METRIC_COLUMNS else True


def _without_bound(column: str) -> str:
    return column.removesuffix("_low").removesuffix("_high")


def describe_columns() -> list[ColumnDescription]:
    """Return a description of each column without suffix, in order, for the documentation."""
    return [
        ColumnDescription(
            "flavor", "transformers or genai, or the name of a model evaluated alone"
        ),
        ColumnDescription("target", "target of the conversion"),
        ColumnDescription("exporter", "exporter of the ONNX graph"),
        ColumnDescription("precision", "type of the weights that the model computes with"),
        ColumnDescription("verdict", "whether the converted model is good enough to serve"),
        ColumnDescription("model_uri", "URI of the MLflow model"),
        *(
            ColumnDescription(
                name,
                column.meaning,
                unit="0 to 1" if column.format == SHARE else column.format.partition(" ")[2],
                higher_is_better=None if name == "n" else column.higher_is_better,
            )
            for name, column in METRIC_COLUMNS.items()
        ),
    ]
