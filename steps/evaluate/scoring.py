"""The metrics a flavor is scored by: of each row, of all rows, and for `mlflow.models.evaluate`."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from mlflow.metrics import MetricValue, make_metric

from steps.evaluate import metrics, uncertainty
from steps.evaluate.uncertainty import Array, Figure

TextMetric = Callable[[str, str], float]


class Against(Enum):
    """What an answer is compared with: the expected text, or the reference flavor's."""

    answer = "answer"
    reference = "reference"


@dataclass(frozen=True)
class Metric:
    """What a row adds to sums (k numbers, from its text and the other), and the figure of the sums.

    The figure of one row's numbers is that row's score. share: whether it is a mean of scores that
    go from 0 to 1.
    """

    name: str
    numbers: Callable[[str, str], tuple[float, ...]]
    figure: Figure
    share: bool = False
    against: Against = Against.answer

    def rows(self, texts: Sequence[str], others: Sequence[str]) -> Array:
        """Return the numbers of each row: float64 of shape (n, k)."""
        pairs = zip(texts, others, strict=True)
        return np.array([self.numbers(*pair) for pair in pairs], dtype=np.float64)

    def mlflow(self) -> Any:
        """Return the MLflow metric: of predictions and targets, or the column `reference`."""

        def value(texts: Sequence[str], others: Sequence[str]) -> MetricValue:
            rows = self.rows(texts, others)
            return MetricValue(
                scores=self.figure(rows).tolist(),
                aggregate_results={self.name: float(self.figure(rows.sum(axis=0)))},
            )

        # MLflow finds the arguments by their names.
        def of_answer(predictions: Sequence[str], targets: Sequence[str]) -> MetricValue:
            return value(predictions, targets)

        def of_reference(predictions: Sequence[str], reference: Sequence[str]) -> MetricValue:
            return value(predictions, reference)

        function = of_answer if self.against is Against.answer else of_reference
        return make_metric(eval_fn=function, greater_is_better=True, name=self.name)


def mean_of(name: str, score: TextMetric, **kind: Any) -> Metric:
    """Return the metric that is the mean of a score; the same two texts are scored once."""
    return Metric(
        name, functools.cache(lambda *texts: (score(*texts), 1.0)), uncertainty.mean, **kind
    )


def _bleu(sums: Array) -> Array:
    counts = sums.astype(np.int64).reshape(-1, sums.shape[-1]).tolist()
    return np.array([metrics.bleu(each) for each in counts]).reshape(sums.shape[:-1])


AGAINST_ANSWER = (
    mean_of("exact_match", metrics.exact_match, share=True),
    mean_of("contains", metrics.contains, share=True),
    mean_of("token_f1", metrics.token_f1, share=True),
    mean_of("rouge_l", metrics.rouge_l, share=True),
    Metric("bleu", functools.cache(metrics.bleu_counts), _bleu),
)
"""What compares a flavor's answers with the expected ones."""

AGAINST_REFERENCE = (
    mean_of("agreement", metrics.exact_match, share=True, against=Against.reference),
    mean_of("shared_prefix", metrics.shared_prefix, share=True, against=Against.reference),
)
"""What compares a flavor's answers with the reference flavor's."""


@dataclass(frozen=True)
class Uncertainty:
    """By metric, where there is one: 95 % confidence intervals, and p-values of paired tests."""

    intervals: dict[str, tuple[float, float]]
    p_values: dict[str, float]


def uncertain(
    metrics: Sequence[Metric],
    texts: Sequence[str],
    expected: Sequence[str],
    reference: Sequence[str] | None,
) -> Uncertainty:
    """Return how sure the figures of a flavor's texts are, and what they differ from.

    expected, reference: the texts that are right, and the reference flavor's, which is None for
    that flavor itself; all of the same length.
    """
    intervals, p_values = {}, {}
    for metric in metrics:
        others = expected if metric.against is Against.answer else reference or ()
        rows = metric.rows(texts, others)
        if found := uncertainty.interval(rows, metric.figure, share=metric.share):
            intervals[metric.name] = found
        if metric.against is Against.answer and reference is not None:
            theirs = metric.rows(reference, expected)
            p_values[metric.name] = uncertainty.p_value(rows, theirs, metric.figure)
    return Uncertainty(intervals, p_values)
