"""The metrics a model is scored by: of each row, of all rows, and for `mlflow.models.evaluate`."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from mlflow.metrics import MetricValue, make_metric

from slmflow.metrics import text_scores as metrics
from slmflow.metrics import uncertainty
from slmflow.metrics.model_metrics import is_higher_better
from slmflow.metrics.uncertainty import Aggregate, Array


@dataclass(frozen=True)
class Metric:
    """What a row adds to sums (k numbers, from some of its columns), and the figure of the sums.

    The figure of one row's numbers is that row's score. share: whether it is a mean of scores that
    go from 0 to 1; of_reference: whether it compares a model with the reference. The columns are
    those of `table`.
    """

    name: str
    columns: tuple[str, ...]
    numbers: Callable[..., tuple[float, ...]]
    figure: Aggregate
    share: bool = False
    of_reference: bool = False

    def measured(self, table: pd.DataFrame) -> bool:
        """Return whether a table has all that the metric is computed from."""
        return all(name in table and table[name].notna().all() for name in self.columns)

    def rows(self, table: pd.DataFrame) -> Array:
        """Return the numbers of each row: float64 of shape (n, k)."""
        return self._rows(*(table[name] for name in self.columns))

    def mlflow(self) -> Any:
        """Return the MLflow metric of a table with these columns."""

        others = [name for name in self.columns if name != "prediction"]

        def value(predictions: Any, *values: Any) -> MetricValue:
            given = dict(zip(["prediction", *others], [predictions, *values], strict=True))
            rows = self._rows(*(given[name] for name in self.columns))
            return MetricValue(
                scores=self.figure(rows).tolist(),
                aggregate_results={self.name: float(self.figure(rows.sum(axis=0)))},
            )

        return make_metric(
            eval_fn=_named(value, others),
            greater_is_better=is_higher_better(self.name),
            name=self.name,
        )

    def _rows(self, *columns: Sequence[Any]) -> Array:
        rows = zip(*columns, strict=True)
        return np.array([self.numbers(*values) for values in rows], dtype=np.float64)


def _named(function: Callable[..., Any], others: Sequence[str]) -> Callable[..., Any]:
    """Give a function the signature (predictions, and these): MLflow goes by the names.

    Two arguments that are not of predictions are something else to it, so these come first.
    """
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("predictions", *others)]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function


def mean_metric(name: str, score: Callable[..., float], *columns: str, **kind: bool) -> Metric:
    """Return the metric that is the mean of a score of some columns, of the two texts if not said.

    The same values are scored once.
    """
    return Metric(
        name=name,
        columns=columns or ("prediction", "answer"),
        numbers=functools.cache(lambda *values: (score(*values), 1.0)),
        figure=uncertainty.mean,
        **kind,
    )


def _bleu(sums: Array) -> Array:
    counts = sums.astype(np.int64).reshape(-1, sums.shape[-1]).tolist()
    return np.array([metrics.bleu(each) for each in counts]).reshape(sums.shape[:-1])


ACCURACY = mean_metric("accuracy", metrics.exact_match, "choice", "answer", share=True)

METRICS = (
    mean_metric("exact_match", metrics.exact_match, share=True),
    mean_metric("contains", metrics.contains, share=True),
    mean_metric("token_f1", metrics.token_f1, share=True),
    mean_metric("rouge_l", metrics.rouge_l, share=True),
    Metric("bleu", ("prediction", "answer"), functools.cache(metrics.bleu_counts), _bleu),
    mean_metric(
        "agreement",
        metrics.exact_match,
        *("prediction", "reference"),
        share=True,
        of_reference=True,
    ),
    mean_metric("shared_prefix", float, "same_until", share=True, of_reference=True),
    Metric("perplexity", ("logprob", "tokens"), lambda *sums: sums, metrics.perplexity),
    ACCURACY,
)
"""All of slmflow's own, in the order of the comparison."""


@dataclass(frozen=True)
class Uncertainty:
    """By metric, where there is one: 95 % confidence intervals, and p-values of paired tests."""

    intervals: dict[str, tuple[float, float]]
    p_values: dict[str, float]


def estimate_uncertainty(
    metrics: Sequence[Metric], table: pd.DataFrame, reference: pd.DataFrame | None
) -> Uncertainty:
    """Return how sure the figures of a model's table are, and which the reference's differ from.

    reference: the table of the reference on the same rows, None for the reference itself.
    """
    intervals, p_values = {}, {}
    for metric in metrics:
        rows = metric.rows(table)
        if found := uncertainty.confidence_interval(rows, metric.figure, share=metric.share):
            intervals[metric.name] = found
        if reference is not None and not metric.of_reference and metric.measured(reference):
            p_values[metric.name] = uncertainty.paired_p_value(
                rows, metric.rows(reference), metric.figure
            )
    return Uncertainty(intervals, p_values)
