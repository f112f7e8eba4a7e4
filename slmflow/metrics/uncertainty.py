"""Uncertainty of a metric: bootstrap confidence intervals, and paired tests of two models.

Each row contributes a vector of statistics, and an `Aggregate` computes the metric from the sum of
these vectors. A mean is sum / count; BLEU and perplexity have this form too. Rows are resampled or
swapped, and the metric is computed again from the new sums.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Aggregate = Callable[[Array], Array]
"""Maps sums, float64 of shape (..., k), to metric values of shape (...)."""

CONFIDENCE = 0.95

_RESAMPLES = 9_999
_SEED = 20260
_MAX_BATCH_NUMBERS = 2**22  # 32 MiB of float64


def mean(sums: Array) -> Array:
    """Return the mean of scores; the statistics of a row are its score and 1."""
    return sums[..., 0] / sums[..., 1]


def confidence_interval(
    rows: Array, aggregate: Aggregate, *, is_share: bool
) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of a metric; None if the rows do not vary.

    rows: the statistics of each row, of shape (n, k); is_share: whether the metric is a mean of
    scores from 0 to 1. Uses the percentile bootstrap over rows with a fixed seed (Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13). The bootstrap gives no
    interval if all resamples are equal. For shares of exactly 0 or 1, the exact one-sided binomial
    bound applies instead, about 1 - 3 / n: the "rule of three" (Hanley and Lippman-Hand, "If
    Nothing Goes Wrong, Is Everything All Right?", 1983).
    """
    scores = aggregate(rows)
    if is_share and scores[0] in (0, 1) and (scores == scores[0]).all():
        return _rule_of_three(len(rows), is_one=bool(scores[0]))
    if (rows == rows[0]).all():
        return None

    def resampled(indices: NDArray[np.int64], axis: int) -> Array:
        return aggregate(rows[indices].sum(axis=-2))

    low, high = _bootstrap(np.arange(len(rows)), resampled, _batch_size(rows))
    return None if np.isclose(low, high, rtol=1e-9) else (low, high)


def median_interval(values: Array) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of a median, by the same bootstrap.

    values: of shape (n,). None if there are fewer than two different values.
    """
    if len(np.unique(values)) < 2:
        return None
    return _bootstrap(values, np.median, _batch_size(values))


def macro_average_interval(
    correct: NDArray[np.int64], n: NDArray[np.int64]
) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of the mean over groups of the share of correct rows.

    correct, n: the correct rows and all rows of each group, of shape (groups,). Uses the same
    bootstrap within each group, where the number of correct rows in a resample is binomial. None if
    all resamples are equal.
    """
    drawn = np.random.default_rng(_SEED).binomial(n, correct / n, size=(_RESAMPLES, len(n)))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile((drawn / n).mean(axis=1), [tail, 100 - tail])
    return None if np.isclose(low, high, rtol=1e-9) else (float(low), float(high))


def paired_p_value(ours: Array, theirs: Array, aggregate: Aggregate) -> float:
    """Return the two-sided p-value of a paired test: do two models differ in a metric?

    ours, theirs: the statistics of the same rows, of shape (n, k). Scores of 0 and 1 only are
    compared by the exact McNemar test, the binomial test of the rows that differ (McNemar, "Note on
    the sampling error of the difference between correlated proportions or percentages", 1947). All
    others are compared by the paired permutation test, also called approximate randomization
    (Noreen, "Computer-Intensive Methods for Testing Hypotheses", 1989), which swaps the two models'
    results row by row: in every way if at most 13 rows differ, else in 9,999 random ways with a
    fixed seed, so that the smallest p-value is 0.0002.
    """
    differs = (ours != theirs).any(axis=1)
    if aggregate is mean and np.isin([ours[:, 0], theirs[:, 0]], (0, 1)).all():
        better = int((ours[:, 0] > theirs[:, 0]).sum())
        rows = int(differs.sum())
        return float(stats.binomtest(better, rows).pvalue) if rows else 1.0
    if differs.sum() < 2:
        return 1.0  # swapping a single row only changes the sign
    # Swapping equal rows changes nothing.
    same, pairs = ours[~differs].sum(axis=0), np.concatenate([ours[differs], theirs[differs]])

    def difference(ours: NDArray[np.int64], theirs: NDArray[np.int64], axis: int) -> Array:
        first, second = (
            aggregate(same + pairs[indices].sum(axis=-2)) for indices in (ours, theirs)
        )
        return (first - second).round(12)  # the order of summation must not matter

    tested: Any = stats.permutation_test(
        tuple(np.split(np.arange(len(pairs)), 2)),
        difference,
        permutation_type="samples",
        n_resamples=_RESAMPLES,
        batch=_batch_size(pairs),
        vectorized=True,
        rng=_SEED,
    )
    return float(tested.pvalue)


def _bootstrap(sample: Any, statistic: Callable[..., Any], batch: int) -> tuple[float, float]:
    """Return the percentile interval of a vectorized statistic of a sample."""
    interval = stats.bootstrap(
        (sample,),
        statistic,
        n_resamples=_RESAMPLES,
        batch=batch,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=_SEED,
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _rule_of_three(n: int, *, is_one: bool) -> tuple[float, float]:
    side = "greater" if is_one else "less"
    bound = stats.binomtest(n if is_one else 0, n, alternative=side).proportion_ci(CONFIDENCE)
    return float(bound.low), float(bound.high)


def _batch_size(rows: Array) -> int:
    return max(1, _MAX_BATCH_NUMBERS // rows.size)
