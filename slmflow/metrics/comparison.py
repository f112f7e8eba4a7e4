"""The comparison of a model's flavors: its table, its verdict and its significant differences."""

import dataclasses
from dataclasses import dataclass
from typing import Self

import mlflow
import pandas as pd

from slmflow.metrics.model_metrics import METRIC_COLUMNS, ModelMetrics, is_higher_better
from slmflow.pipeline.results import Evaluation

SIGNIFICANT = 0.05
"""A p-value below this is a significant difference."""

HEADLINES = {
    "accuracy": "accuracy",
    "exact_match": "exact match",
    "latency_ms_p50": "median latency",
    "peak_rss_mb": "peak memory",
    "model_size_mb": "model size",
}
"""The metrics that a report names first, with their titles."""


@dataclass(frozen=True)
class Comparison:
    """The metrics of each flavor of a model, the reference first.

    run_id: the run of evaluate; model: the name of the model.
    """

    run_id: str
    model: str
    figures: tuple[ModelMetrics, ...]

    @classmethod
    def from_result(cls, evaluation: Evaluation) -> Self:
        """Return the comparison that a run of evaluate logged."""
        figures = tuple(ModelMetrics.from_json(flavor) for flavor in evaluation.metrics)
        return cls(evaluation.run_id, evaluation.model, figures)

    def to_result(self) -> Evaluation:
        """Return the result of evaluate."""
        metrics = tuple(dataclasses.asdict(flavor) for flavor in self.figures)
        return Evaluation(self.run_id, self.model, metrics)

    @property
    def reference(self) -> ModelMetrics | None:
        """The metrics of the reference; None if one model is evaluated alone."""
        return self.figures[0] if len(self.figures) > 1 else None

    @property
    def compared(self) -> ModelMetrics:
        """The metrics of the converted model, or of the model evaluated alone."""
        return self.figures[-1]

    @property
    def title(self) -> str:
        """The subject, e.g. `tiny_phi3 on cpu_int4 (optimum)`, or the URI of a lone model."""
        converted = self.compared
        if converted.target is None:
            return converted.model_uri
        return f"{self.model} on {converted.target} ({converted.exporter})"

    @property
    def flavors(self) -> list[str]:
        """The names of the compared flavors, the reference first."""
        return [row.flavor for row in self.figures]

    def table(self) -> list[list[str]]:
        """Return one line per metric: its name, then its formatted value for each flavor."""
        return [[name, *(row.written(name) for row in self.figures)] for name in self.names]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the metrics to show, the user's metrics last.

        Leaves out accuracy if no row has choices, and the agreement of a model evaluated alone.
        """
        has_choices = any(row.accuracy is not None for row in self.figures)
        hidden = set() if has_choices else {"accuracy"}
        if self.reference is None:
            hidden |= {"agreement", "shared_prefix"}
        return (
            *(name for name in METRIC_COLUMNS if name not in hidden),
            *self.figures[0].further,
        )

    @property
    def headlines(self) -> dict[str, str]:
        """The titles of those `HEADLINES` that were measured for every flavor, by metric."""
        return {
            name: title
            for name, title in HEADLINES.items()
            if all(row.value(name) is not None for row in self.figures)
        }

    @property
    def verdict(self) -> str:
        """The first headlines of each flavor, and the significant differences."""
        first = list(self.headlines.items())[:2]
        rows = [
            f"{row.flavor}: {', '.join(f'{row.value_written(n)} {title}' for n, title in first)}"
            for row in reversed(self.figures)
        ]
        return " ".join(part for part in ("; ".join(rows) + ".", self.differences) if part)

    @property
    def effects(self) -> dict[str, str]:
        """`better` or `worse` for each metric with a significant difference."""
        reference, compared = self.reference, self.compared
        if reference is None:
            return {}
        return {
            name: _effect(name, compared, reference)
            for name, p in compared.p_values.items()
            if p < SIGNIFICANT
        }

    @property
    def differences(self) -> str:
        """A sentence about the significant differences; empty if nothing was tested."""
        reference, compared = self.reference, self.compared
        if reference is None or not compared.p_values:
            return ""
        found = " and ".join(
            f"{effect} than {reference.flavor} in {', '.join(names)}"
            for effect in ("worse", "better")
            if (names := self._with_effect(effect))
        )
        return (
            f"Beyond chance (p < {SIGNIFICANT}, a paired test of each metric by itself) "
            f"{compared.flavor} "
            + (f"is {found}." if found else f"differs from {reference.flavor} in no metric.")
        )

    def _with_effect(self, effect: str) -> list[str]:
        written = self.compared.p_written
        return [
            f"{name} p = {written(name)}".replace("= <", "< ")
            for name, other in self.effects.items()
            if other == effect
        ]

    def log_metrics(self) -> None:
        """Log `comparison.json` and metrics such as `genai.exact_match` to the active run."""
        rows = [row.columns() for row in self.figures]
        mlflow.log_table(pd.DataFrame(rows), Evaluation.artifact)
        for row in self.figures:
            mlflow.log_metrics(row.metrics())


def _effect(name: str, converted: ModelMetrics, reference: ModelMetrics) -> str:
    gain = (converted.value(name) or 0) - (reference.value(name) or 0)
    return "better" if (gain > 0) == is_higher_better(name) else "worse"
