"""What evaluate hands on."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException

from steps.common import console
from steps.common.results import Result, Stale
from steps.common.user_metrics import SUFFIXES
from steps.log_genai.result import GenaiModel
from steps.log_transformers.result import TransformersModel


def _figure(form: str, meaning: str, also: tuple[str, ...] = ()) -> Any:
    """Declare a figure: how it is written, what it is, and the suffixes of its further columns."""
    return dataclasses.field(metadata={"form": form, "meaning": meaning, "also": also})


_BOUNDED = SUFFIXES[:2]
_TESTED = SUFFIXES

SIGNIFICANT = 0.05
"""The p-value below which a difference is called one."""


@dataclass(frozen=True)
class FlavorFigures:
    """One row of the comparison; its fields are the columns of `comparison.json`, in order.

    None is a figure that was not measured. The unit is in the name: `_s` seconds, `_ms`
    milliseconds, `_mb` 10^6 bytes; `bleu` goes from 0 to 100, the other figures of quality from 0
    to 1. `further` are the user's own metrics. `intervals` are 95 % confidence intervals and
    `p_values` those of paired tests against the reference flavor: by metric, where there is one,
    and columns such as `exact_match_low`, `exact_match_high` and `exact_match_p`.
    """

    flavor: str
    target: str
    exporter: str
    model_uri: str
    n: int = _figure("{}", "rows of the evaluation data")
    exact_match: float | None = _figure("{:.1%}", "answers that are the expected text", _TESTED)
    contains: float | None = _figure(
        "{:.1%}", "answers that have the expected text in them", _TESTED
    )
    token_f1: float | None = _figure(
        "{:.1%}", "words shared with the expected text, F1 as in SQuAD", _TESTED
    )
    rouge_l: float | None = _figure(
        "{:.1%}", "words in the expected text's order, ROUGE-L F measure", _TESTED
    )
    bleu: float | None = _figure("{:.1f}", "of all answers together, sacrebleu, 0 to 100", _TESTED)
    agreement: float | None = _figure(
        "{:.1%}", "answers that are the transformers flavor's text", _BOUNDED
    )
    shared_prefix: float | None = _figure(
        "{:.1%}", "words before the first that differs from the transformers flavor's", _BOUNDED
    )
    perplexity: float | None = _figure("{:.3f}", "of the expected answers; 1 is certainty")
    ttft_ms_p50: float | None = _figure("{:,.1f} ms", "time to the first token, median")
    latency_ms_p50: float | None = _figure("{:,.1f} ms", "time to the whole answer, median")
    latency_ms_p95: float | None = _figure(
        "{:,.1f} ms", "time to the whole answer, 95th percentile"
    )
    prefill_tokens_per_s: float | None = _figure(
        "{:,.1f} /s", "tokens of the prompt taken in, median"
    )
    decode_tokens_per_s: float | None = _figure(
        "{:,.1f} /s", "tokens generated after the first, median"
    )
    load_s: float | None = _figure("{:,.2f} s", "from files on disk to a model that can answer")
    peak_rss_mb: float | None = _figure(
        "{:,.0f} MB", "most memory held while it answered, Python included"
    )
    model_size_mb: float | None = _figure("{:,.1f} MB", "files of the MLflow model")
    further: dict[str, float] = dataclasses.field(default_factory=dict)
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
        value = self.further[name] if name in self.further else getattr(self, name)
        if value is None:
            return "-"
        write = str(MEANINGS[name]["form"] if name in MEANINGS else "{:,.4g}").format
        if name not in self.intervals:
            return write(value)
        low, high = self.intervals[name]
        return f"{write(value)} ({write(low)} to {write(high)})"

    def p_written(self, name: str) -> str:
        """Return the p-value of a metric as people read it; `-` is one that was not tested."""
        p = self.p_values.get(name)
        return "-" if p is None else f"{p:.3f}" if p >= 0.001 else "<0.001"

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the figures that a JSON object holds."""
        intervals = {name: (low, high) for name, (low, high) in fields["intervals"].items()}
        return cls(**fields | {"intervals": intervals})


MEANINGS = {
    field.name: field.metadata for field in dataclasses.fields(FlavorFigures) if field.metadata
}
"""How each figure is written (`form`) and what it is (`meaning`), in the order of the columns."""

_FIELDS = tuple(
    field.name
    for field in dataclasses.fields(FlavorFigures)
    if field.default_factory is dataclasses.MISSING
)

COLUMNS = (*_FIELDS, *(name + suffix for name, m in MEANINGS.items() for suffix in m["also"]))
"""The columns of `comparison.json` but for those of the user's own metrics, in order."""


@dataclass(frozen=True)
class Evaluation(Result):
    """The comparison of both flavors of a model, and the run it was measured in."""

    step: ClassVar = "evaluate"
    reads: ClassVar = ("evaluation", "generation")
    consumes: ClassVar = (TransformersModel, GenaiModel)
    packages: ClassVar = (
        "mlflow",
        "onnxruntime-genai",
        "rouge-score",
        "sacrebleu",
        "scipy",
        "torch",
        "transformers",
    )

    run_id: str
    model: str
    figures: tuple[FlavorFigures, ...]

    def check(self) -> None:
        """Raise Stale unless the run still has its comparison."""
        try:
            mlflow.artifacts.load_dict(f"runs:/{self.run_id}/comparison.json")
        except (MlflowException, OSError) as error:
            raise Stale(f"the comparison of run {self.run_id} is not there any more") from error

    @property
    def title(self) -> str:
        """What was compared, e.g. `tiny_phi3 on cpu_int4 (optimum)`."""
        converted = self.figures[-1]
        return f"{self.model} on {converted.target} ({converted.exporter})"

    @property
    def flavors(self) -> list[str]:
        """The names of the compared flavors, the reference first."""
        return [row.flavor for row in self.figures]

    def table(self) -> list[list[str]]:
        """Return a line per figure: its name, then how it is written for each flavor."""
        names = (*MEANINGS, *self.figures[0].further)
        return [[name, *(row.written(name) for row in self.figures)] for name in names]

    @property
    def differences(self) -> str:
        """In which metrics the paired tests tell the flavors apart; empty without tests."""
        reference, compared = self.figures[0], self.figures[-1]
        if not compared.p_values:
            return ""
        apart = [
            f"{name} p = {compared.p_written(name)}".replace("= <", "< ")
            for name, p in compared.p_values.items()
            if p < SIGNIFICANT
        ]
        found = f"in {', '.join(apart)}" if apart else "in no metric"
        return (
            f"Beyond chance (p < {SIGNIFICANT}, a paired test of each metric by itself) "
            f"{compared.flavor} differs from {reference.flavor} {found}."
        )

    def log_figures(self) -> None:
        """Log `comparison.json` and metrics such as `genai.exact_match` to the active run."""
        rows = [row.columns() for row in self.figures]
        mlflow.log_table(pd.DataFrame(rows), "comparison.json")
        for row in self.figures:
            mlflow.log_metrics(row.metrics())

    def show(self) -> None:
        """Print the comparison as a table."""
        console.table(self.title, ["", *self.flavors], self.table(), self.differences)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the result that `to_json` made this object of."""
        figures = tuple(FlavorFigures.from_json(row) for row in fields["figures"])
        return cls(**fields | {"figures": figures})
