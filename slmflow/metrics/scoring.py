"""The quality metrics: of one row, of all rows, and for `mlflow.models.evaluate`."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from mlflow.metrics import MetricValue, make_metric

from slmflow.metrics import text_scores, uncertainty
from slmflow.metrics.model_metrics import is_higher_better
from slmflow.metrics.uncertainty import Aggregate, Array


@dataclass(frozen=True)
class Metric:
    """A metric of an answer table: the statistics of each row, and the aggregate of their sum.

    columns: of the table; statistics: maps a row's values in these columns to k numbers; aggregate:
    maps the sum of all rows' statistics to the metric, and one row's statistics to that row's
    score; is_share: whether the metric is a mean of scores from 0 to 1; compares_reference: whether
    it compares a model with the reference.
    """

    name: str
    columns: tuple[str, ...]
    statistics: Callable[..., tuple[float, ...]]
    aggregate: Aggregate
    is_share: bool = False
    compares_reference: bool = False

    def is_computable(self, table: pd.DataFrame) -> bool:
        """Return whether a table has every column of the metric, without missing values."""
        return all(name in table and table[name].notna().all() for name in self.columns)

    def row_statistics(self, table: pd.DataFrame) -> Array:
        """Return the statistics of each row, of shape (n, k)."""
        return self._row_statistics(*(table[name] for name in self.columns))

    def to_mlflow(self) -> Any:
        """Return the MLflow metric of a table with these columns."""
        others = [name for name in self.columns if name != "prediction"]

        def evaluate(predictions: Any, *values: Any) -> MetricValue:
            by_name = dict(zip(["prediction", *others], [predictions, *values], strict=True))
            rows = self._row_statistics(*(by_name[name] for name in self.columns))
            return MetricValue(
                scores=self.aggregate(rows).tolist(),
                aggregate_results={self.name: float(self.aggregate(rows.sum(axis=0)))},
            )

        return make_metric(
            eval_fn=_with_parameters(evaluate, others),
            greater_is_better=is_higher_better(self.name),
            name=self.name,
        )

    def _row_statistics(self, *columns: Sequence[Any]) -> Array:
        rows = zip(*columns, strict=True)
        return np.array([self.statistics(*values) for values in rows], dtype=np.float64)


def _with_parameters(function: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """Give a function the signature (predictions, *names): MLflow passes columns by name.

    `predictions` is always first, because MLflow treats a function of two other arguments
    differently.
    """
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("predictions", *names)]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function


def mean_metric(name: str, score: Callable[..., float], *columns: str, **options: bool) -> Metric:
    """Return a metric that is the mean of a score of some columns.

    The default columns are the two texts. Equal values are scored once.
    """
    return Metric(
        name=name,
        columns=columns or ("prediction", "answer"),
        statistics=functools.cache(lambda *values: (score(*values), 1.0)),
        aggregate=uncertainty.mean,
        **options,
    )


def _bleu(sums: Array) -> Array:
    counts = sums.astype(np.int64).reshape(-1, sums.shape[-1]).tolist()
    return np.array([text_scores.bleu(each) for each in counts]).reshape(sums.shape[:-1])


ACCURACY = mean_metric("accuracy", text_scores.exact_match, "choice", "answer", is_share=True)

METRICS = (
    mean_metric("exact_match", text_scores.exact_match, is_share=True),
    mean_metric("contains", text_scores.contains, is_share=True),
    mean_metric("token_f1", text_scores.token_f1, is_share=True),
    mean_metric("rouge_l", text_scores.rouge_l, is_share=True),
    Metric("bleu", ("prediction", "answer"), functools.cache(text_scores.bleu_counts), _bleu),
    mean_metric(
        "agreement",
        text_scores.exact_match,
        *("prediction", "reference"),
        is_share=True,
        compares_reference=True,
    ),
    mean_metric("shared_prefix", float, "same_until", is_share=True, compares_reference=True),
    Metric("perplexity", ("logprob", "tokens"), lambda *sums: sums, text_scores.perplexity),
    ACCURACY,
)
"""The built-in quality metrics, in the order of the comparison."""


@dataclass(frozen=True)
class Uncertainty:
    """95 % confidence intervals and p-values of paired tests, by metric, where they exist."""

    intervals: dict[str, tuple[float, float]]
    p_values: dict[str, float]


def estimate_uncertainty(
    metrics: Sequence[Metric], table: pd.DataFrame, reference: pd.DataFrame | None
) -> Uncertainty:
    """Return intervals of a model's metrics, and p-values of tests against the reference.

    reference: the reference's table of the same rows; None for the reference itself.
    """
    intervals, p_values = {}, {}
    for metric in metrics:
        rows, aggregate = metric.row_statistics(table), metric.aggregate
        if interval := uncertainty.confidence_interval(rows, aggregate, is_share=metric.is_share):
            intervals[metric.name] = interval
        if (
            reference is not None
            and not metric.compares_reference
            and metric.is_computable(reference)
        ):
            p_values[metric.name] = uncertainty.paired_p_value(
                rows, metric.row_statistics(reference), aggregate
            )
    return Uncertainty(intervals, p_values)
