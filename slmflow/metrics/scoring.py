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
from slmflow.metrics.answer_table import OTHER_ANSWERS
from slmflow.metrics.model_metrics import METRIC_COLUMNS, is_higher_better
from slmflow.metrics.text_scores import TextScore
from slmflow.metrics.uncertainty import Aggregate, Array, Difference

TEXTS = ("prediction", "answer")
"""The columns of a metric that compares answers with expected ones."""


@dataclass(frozen=True)
class Metric:
    """A metric of an answer table: the statistics of each row, and the aggregate of their sum.

    columns: of the table; statistics: maps a row's values in these columns to k numbers; aggregate:
    maps the sum of all rows' statistics to the metric, and one row's statistics to that row's
    score; is_share: whether the metric is a mean of scores from 0 to 1; compares_reference: whether
    it compares a model with the reference; accepts_others: whether it also reads the column
    `other_answers`, if the table has it.
    """

    name: str
    columns: tuple[str, ...]
    statistics: Callable[..., tuple[float, ...]]
    aggregate: Aggregate
    is_share: bool = False
    compares_reference: bool = False
    accepts_others: bool = False

    def is_computable(self, table: pd.DataFrame) -> bool:
        """Return whether a table has every column of the metric, without missing values."""
        return all(name in table and table[name].notna().all() for name in self.columns)

    def row_statistics(self, table: pd.DataFrame) -> Array:
        """Return the statistics of each row, of shape (n, k)."""
        return self._row_statistics(*(table[name] for name in self._columns_in(table)))

    def to_mlflow(self, table: pd.DataFrame) -> Any:
        """Return the MLflow metric of a table with the columns of this one."""
        columns = self._columns_in(table)
        others = [name for name in columns if name != "prediction"]

        def evaluate(predictions: Any, *values: Any) -> MetricValue:
            by_name = dict(zip(["prediction", *others], [predictions, *values], strict=True))
            rows = self._row_statistics(*(by_name[name] for name in columns))
            return MetricValue(
                scores=self.aggregate(rows).tolist(),
                aggregate_results={self.name: float(self.aggregate(rows.sum(axis=0)))},
            )

        return make_metric(
            eval_fn=_with_parameters(evaluate, others),
            greater_is_better=is_higher_better(self.name),
            name=self.name,
        )

    def _columns_in(self, table: pd.DataFrame) -> tuple[str, ...]:
        """Return the columns that the metric reads of a table."""
        has_others = self.accepts_others and OTHER_ANSWERS in table
        return (*self.columns, OTHER_ANSWERS) if has_others else self.columns

    def _row_statistics(self, *columns: Sequence[Any]) -> Array:
        rows = zip(*(map(_hashable, column) for column in columns), strict=True)
        return np.array([self.statistics(*values) for values in rows], dtype=np.float64)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _with_parameters(function: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """Give a function the signature (predictions, *names): MLflow passes columns by name.

    `predictions` is always first, because MLflow treats a function of two other arguments
    differently.
    """
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("predictions", *names)]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function


def text_metric(name: str, score: TextScore, *, is_share: bool = False) -> Metric:
    """Return a metric that is the mean of a score of the answers.

    The best score over a row's accepted answers counts. Equal rows are scored once.
    """

    def best(prediction: str, answer: str, others: Sequence[str] = ()) -> tuple[float, float]:
        return text_scores.best(score, prediction, (answer, *others)), 1.0

    return Metric(
        name=name,
        columns=TEXTS,
        statistics=functools.cache(best),
        aggregate=uncertainty.mean,
        is_share=is_share,
        accepts_others=True,
    )


def _mean_metric(name: str, score: Callable[..., float], *columns: str, **options: bool) -> Metric:
    """Return a metric that is the mean of a score of some columns."""
    return Metric(
        name=name,
        columns=columns,
        statistics=functools.cache(lambda *values: (score(*values), 1.0)),
        aggregate=uncertainty.mean,
        is_share=True,
        **options,
    )


@functools.cache
def _bleu_counts(prediction: str, answer: str, others: Sequence[str] = ()) -> tuple[int, ...]:
    return text_scores.bleu_counts(prediction, (answer, *others))


def _bleu(sums: Array) -> Array:
    counts = sums.astype(np.int64).reshape(-1, sums.shape[-1]).tolist()
    return np.array([text_scores.bleu(each) for each in counts]).reshape(sums.shape[:-1])


ACCURACY = _mean_metric("accuracy", text_scores.exact_match_strict, "choice", "answer")

METRICS = (
    text_metric("exact_match", text_scores.exact_match, is_share=True),
    text_metric("exact_match_strict", text_scores.exact_match_strict, is_share=True),
    text_metric("contains", text_scores.contains, is_share=True),
    text_metric("token_f1", text_scores.token_f1, is_share=True),
    text_metric("rouge_l", text_scores.rouge_l, is_share=True),
    Metric("bleu", TEXTS, _bleu_counts, _bleu, accepts_others=True),
    _mean_metric(
        "agreement",
        text_scores.exact_match_strict,
        *("prediction", "reference"),
        compares_reference=True,
    ),
    _mean_metric("shared_prefix", float, "same_until", compares_reference=True),
    Metric("perplexity", ("logprob", "tokens"), lambda *sums: sums, text_scores.perplexity),
    ACCURACY,
)
"""The built-in quality metrics, in the order of the comparison."""


@dataclass(frozen=True)
class Uncertainty:
    """95 % confidence intervals of a model's metrics, by metric, where they exist.

    p_values, differences: of the paired comparison with the reference.
    """

    intervals: dict[str, tuple[float, float]]
    p_values: dict[str, float]
    differences: dict[str, Difference]


def estimate_uncertainty(
    metrics: Sequence[Metric], table: pd.DataFrame, reference: pd.DataFrame | None
) -> Uncertainty:
    """Return intervals of a model's metrics, and how they differ from the reference's.

    reference: the reference's table of the same rows; None for the reference itself.
    """
    estimated = Uncertainty({}, {}, {})
    for metric in metrics:
        rows, aggregate = metric.row_statistics(table), metric.aggregate
        if interval := uncertainty.confidence_interval(rows, aggregate, is_share=metric.is_share):
            estimated.intervals[metric.name] = interval
        if (
            reference is not None
            and not metric.compares_reference
            and metric.is_computable(reference)
        ):
            compared = _counted_in_both(rows, metric.row_statistics(reference))
            estimated.p_values[metric.name] = uncertainty.paired_p_value(*compared, aggregate)
            is_ratio = metric.name in METRIC_COLUMNS and METRIC_COLUMNS[metric.name].is_ratio
            difference = uncertainty.paired_difference(
                *compared, aggregate, is_share=metric.is_share, is_ratio=is_ratio
            )
            if difference is not None:
                estimated.differences[metric.name] = difference
    return estimated


def _counted_in_both(ours: Array, theirs: Array) -> tuple[Array, Array]:
    """Return the statistics of the rows that have any in both models.

    A row that one model cannot answer has no likelihood there.
    """
    counted = ours.any(axis=1) & theirs.any(axis=1)
    return ours[counted], theirs[counted]
