"""Uncertainty of a metric: bootstrap confidence intervals, and paired comparisons of two models.

Each row contributes a vector of statistics, and an `Aggregate` computes the metric from the sum of
these vectors. A mean is sum / count; BLEU and perplexity have this form too. Rows are resampled or
swapped, and the metric is computed again from the new sums.
"""

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np
import scipy  # imports `scipy.stats`, which takes most of a second, when it is used
from numpy.typing import NDArray

Array = NDArray[np.float64]
Aggregate = Callable[[Array], Array]
"""Maps sums, float64 of shape (..., k), to metric values of shape (...)."""

CONFIDENCE = 0.95

_FEW_STEPS = 4

PSEUDO_ROWS = 2
"""The rows that `paired_difference` adds to shares."""

_RESAMPLES = 9_999
_SEED = 20260
_MAX_ROWS = 1_000_000
_MAX_BATCH_NUMBERS = 2**22  # 32 MiB of float64
_MOST_REMEMBERED = 64

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _remember(estimate: Callable[_P, _R]) -> Callable[_P, _R]:
    """Estimate once for equal arguments: metrics often agree, and points of a sweep share rows."""
    known: OrderedDict[Any, _R] = OrderedDict()

    @functools.wraps(estimate)
    def remembered(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        key = tuple(
            (each.shape, hashlib.sha256(each.tobytes()).digest())
            if isinstance(each, np.ndarray)
            else each
            for each in (*args, *sorted(kwargs.items()))
        )
        if key not in known:
            known[key] = estimate(*args, **kwargs)
        known.move_to_end(key)
        if len(known) > _MOST_REMEMBERED:
            known.popitem(last=False)
        return known[key]

    return remembered


def mean(sums: Array) -> Array:
    """Return the mean of scores; the statistics of a row are its score and 1."""
    return sums[..., 0] / sums[..., 1]


@_remember
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


@dataclass(frozen=True)
class Difference:
    """How two models differ in a metric over the same rows, with its 95 % confidence interval.

    value: ours minus theirs; for a ratio, ours divided by theirs.
    """

    value: float
    low: float
    high: float


@_remember
def paired_difference(
    ours: Array, theirs: Array, aggregate: Aggregate, *, is_share: bool = False, is_ratio: bool
) -> Difference | None:
    """Return the difference of two models in a metric; None if it is not defined.

    ours, theirs: the statistics of the same rows, of shape (n, k); is_share: whether the metric is
    a mean of scores from 0 to 1; is_ratio: whether to divide instead of to subtract. Uses the
    percentile bootstrap over rows, which keeps the two results of a row together.

    A bootstrap of few rows, or of rows with equal results, is too sure of itself. For shares two
    rows are added before resampling, one that each model wins by 1, as Bonett and Price do in their
    interval for the difference of paired shares ("Adjusted Wald Confidence Interval for a
    Difference of Binomial Proportions Based on Paired Data", 2012). Of other metrics the
    percentiles are those that make the interval of a mean as wide as Student's (Hesterberg, "What
    Teachers Should Know About the Bootstrap", 2015, section 3.3); a single row has no interval.
    """
    if len(ours) < 2 and not is_share:
        return None
    rows, confidence = np.stack([ours, theirs]), _expanded_confidence(len(ours))
    if is_share:
        weight = ours[:, 1].mean()
        won, lost = [weight, weight], [0.0, weight]
        rows = np.concatenate([rows, [[won, lost], [lost, won]]], axis=1)
        confidence = CONFIDENCE

    def difference(ours: Array, theirs: Array) -> Array:
        first, second = aggregate(ours), aggregate(theirs)
        # The order of summation must not matter.
        return (first / second if is_ratio else first - second).round(12)

    def resampled(indices: NDArray[np.int64], axis: int) -> Array:
        return difference(*(each[indices].sum(axis=-2) for each in rows))

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        value = float(difference(ours.sum(axis=0), theirs.sum(axis=0)))
    if not np.isfinite(value):
        return None
    numbers, batch = np.arange(rows.shape[1]), _batch_size(rows)
    return Difference(value, *_bootstrap(numbers, resampled, batch, confidence=confidence))


def rows_to_tell(n: int, difference: Difference, bound: float, *, is_share: bool) -> int | None:
    """Return about how many rows put an interval on one side of a bound; None if very many.

    difference: that of `n` rows. Assumes that other rows differ like these: the value stays, and
    the interval shrinks like that of a normal distribution, with the rows that `paired_difference`
    adds to shares.
    """
    gap = abs(bound - difference.value)
    added = PSEUDO_ROWS if is_share else 0
    z = scipy.stats.norm.ppf((1 + CONFIDENCE) / 2)
    width = (difference.high - difference.low) / 2
    if is_share and width * (n + added) <= _FEW_STEPS:
        # Where rows hardly differ, the bootstrap takes few steps and ends on the far side of one.
        width -= 0.5 / (n + added)
    standard_error = width / z
    variance = max(0.0, (((n + added) * standard_error) ** 2 - added) / n)
    if gap == 0:
        return None
    # Solve z^2 (rows * variance + added) = gap^2 (rows + added)^2.
    total = z**2 * variance, z**2 * added * (1 - variance)
    rows = (total[0] + np.sqrt(total[0] ** 2 + 4 * gap**2 * max(0.0, total[1]))) / (2 * gap**2)
    needed = max(n + 1, int(np.ceil(rows - added)))
    return needed if needed <= _MAX_ROWS else None


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
        return float(scipy.stats.binomtest(better, rows).pvalue) if rows else 1.0
    if differs.sum() < 2:
        return 1.0  # swapping a single row only changes the sign
    # Swapping equal rows changes nothing.
    same, pairs = ours[~differs].sum(axis=0), np.concatenate([ours[differs], theirs[differs]])

    def difference(ours: NDArray[np.int64], theirs: NDArray[np.int64], axis: int) -> Array:
        first, second = (
            aggregate(same + pairs[indices].sum(axis=-2)) for indices in (ours, theirs)
        )
        return (first - second).round(12)  # the order of summation must not matter

    tested: Any = scipy.stats.permutation_test(
        tuple(np.split(np.arange(len(pairs)), 2)),
        difference,
        permutation_type="samples",
        n_resamples=_RESAMPLES,
        batch=_batch_size(pairs),
        vectorized=True,
        rng=_SEED,
    )
    return float(tested.pvalue)


def _bootstrap(
    sample: Any, statistic: Callable[..., Any], batch: int, *, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return the percentile interval of a vectorized statistic of a sample."""
    interval = scipy.stats.bootstrap(
        (sample,),
        statistic,
        n_resamples=_RESAMPLES,
        batch=batch,
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=_SEED,
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _expanded_confidence(n: int) -> float:
    """Return the level at which a percentile interval of `n` rows is as wide as Student's."""
    if n < 2:
        return CONFIDENCE
    quantile = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.sqrt(n / (n - 1))
    return float(min(2 * scipy.stats.norm.cdf(quantile) - 1, 1 - 1 / _RESAMPLES))


def _rule_of_three(n: int, *, is_one: bool) -> tuple[float, float]:
    side = "greater" if is_one else "less"
    bound = scipy.stats.binomtest(n if is_one else 0, n, alternative=side).proportion_ci(CONFIDENCE)
    return float(bound.low), float(bound.high)


def _batch_size(rows: Array) -> int:
    return max(1, _MAX_BATCH_NUMBERS // rows.size)
