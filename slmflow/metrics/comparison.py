"""The comparison of a model's flavors: their metrics, the verdict, the significant differences."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import mlflow
import pandas as pd

from slmflow.metrics.model_metrics import METRIC_COLUMNS, SHARE, ModelMetrics
from slmflow.metrics.verdict import GOOD_ENOUGH, Verdict
from slmflow.pipeline.results import Evaluation
from slmflow.pipeline.step import Step

if TYPE_CHECKING:  # imports all that scores answers
    from slmflow.metrics.evaluate_models import EvaluatedModel

SIGNIFICANCE_LEVEL = 0.05
"""A difference with a lower p-value is significant."""

_NEGLIGIBLE = 0.1  # of the margin


@dataclass(frozen=True)
class Comparison:
    """The metrics of each flavor of a model, the reference first.

    run_id: the run of evaluate; model: the name of the model.
    """

    run_id: str
    model: str
    models: tuple[ModelMetrics, ...]

    @classmethod
    def from_evaluated(cls, step: Step, evaluated: "Sequence[EvaluatedModel]") -> Self:
        """Return the comparison of the models that a run of evaluate scored."""
        models = tuple(model.metrics for model in evaluated)
        return cls(step.run.info.run_id, step.config.model.name, models)

    @classmethod
    def from_result(cls, evaluation: Evaluation) -> Self:
        """Return the comparison that a run of evaluate logged."""
        models = tuple(ModelMetrics.from_json(model) for model in evaluation.metrics)
        return cls(evaluation.run_id, evaluation.model, models)

    def to_result(self) -> Evaluation:
        """Return the result of evaluate."""
        metrics = tuple(dataclasses.asdict(model) for model in self.models)
        return Evaluation(self.run_id, self.model, metrics)

    @property
    def reference(self) -> ModelMetrics | None:
        """The metrics of the reference; None if one model is evaluated alone."""
        return self.models[0] if len(self.models) > 1 else None

    @property
    def compared(self) -> ModelMetrics:
        """The metrics of the converted model, or of the model evaluated alone."""
        return self.models[-1]

    @property
    def verdict(self) -> Verdict | None:
        """Whether the converted model is good enough to serve; None if nothing tells."""
        return self.compared.verdict

    @property
    def is_in_doubt(self) -> bool:
        """Whether the verdict is another than that the converted model is good enough."""
        return self.verdict is not None and self.verdict.outcome != GOOD_ENOUGH

    @property
    def title(self) -> str:
        """The subject, e.g. `tiny_phi3 on cpu_int4 (optimum)`, or the URI of a lone model."""
        compared = self.compared
        if compared.target is None:
            return compared.model_uri
        return f"{self.model} on {compared.target} ({compared.exporter})"

    @property
    def flavors(self) -> list[str]:
        """The names of the compared flavors, the reference first."""
        return [model.flavor for model in self.models]

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of the metrics to show, the user's metrics last.

        Leaves out accuracy if no row has choices, the count of rows not answered if it is 0, the
        agreement of a model evaluated alone, the divergence of one that was not converted here, and
        all that needs rows if tasks were evaluated.
        """
        hidden = {"agreement", "shared_prefix"} if self.reference is None else set()
        for name in ("accuracy", "mean_kl"):
            if all(model.value(name) is None for model in self.models):
                hidden.add(name)
        if not any(model.not_answered for model in self.models):
            hidden.add("not_answered")
        if all(model.exact_match is None for model in self.models):
            unmeasured = (n for n in METRIC_COLUMNS if all(m.value(n) is None for m in self.models))
            hidden.update(unmeasured)
        names = (*METRIC_COLUMNS, *self.compared.user_metrics)
        return tuple(name for name in names if name not in hidden)

    @property
    def effects(self) -> dict[str, str]:
        """`better`, `worse` or `negligible` for each metric with a significant difference.

        A difference is negligible if its whole interval is within a tenth of the margin.
        """
        reference, compared = self.reference, self.compared
        if reference is None:
            return {}
        return {
            name: "negligible" if self._is_negligible(name) else _effect(name, compared, reference)
            for name, p_value in compared.p_values.items()
            if p_value < SIGNIFICANCE_LEVEL
        }

    def _is_negligible(self, name: str) -> bool:
        difference, column = self.compared.differences.get(name), self.compared.column(name)
        if self.verdict is None or difference is None:
            return False
        if not column.is_ratio and column.format != SHARE:
            return False  # the margin has another unit
        equal = 1.0 if column.is_ratio else 0.0
        furthest = max(abs(bound - equal) for bound in (difference.low, difference.high))
        return furthest <= _NEGLIGIBLE * self.verdict.margin

    def log_metrics(self) -> None:
        """Log `comparison.json`, and its headlines as metrics such as `genai.exact_match`.

        The UI lists metrics in the order in which they are logged.
        """
        rows = [model.columns() for model in self.models]
        mlflow.log_table(pd.DataFrame(rows), Evaluation.artifact)
        for model in reversed(self.models):
            mlflow.log_metrics(model.mlflow_metrics())


def _effect(name: str, converted: ModelMetrics, reference: ModelMetrics) -> str:
    gain = (converted.value(name) or 0) - (reference.value(name) or 0)
    return "better" if (gain > 0) == converted.column(name).higher_is_better else "worse"
