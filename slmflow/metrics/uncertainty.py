"""How sure a figure is: bootstrap intervals, and paired tests between two flavors.

A metric gives each row a few numbers, and a `figure` is a function of their sums over the rows: a
mean is sum / count, BLEU and perplexity are of that kind too. So rows are resampled or swapped, and
the figure is computed anew of the sums.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Aggregate = Callable[[Array], Array]
"""From sums, float64 of shape (..., k), to the figure of each, of shape (...)."""

CONFIDENCE = 0.95

_RESAMPLES = 9_999
_SEED = 20260
_NUMBERS_AT_ONCE = 2**22  # 32 MiB of float64


def mean(sums: Array) -> Array:
    """Return the mean of scores: the statistics of a row are its score and 1."""
    return sums[..., 0] / sums[..., 1]


def confidence_interval(
    rows: Array, figure: Aggregate, *, share: bool
) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of a figure; None where the rows cannot tell one.

    rows: (n, k), what each row adds to the sums; share: whether the figure is a mean of scores from
    0 to 1. The percentile bootstrap over rows (Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, chapter 13), with a fixed seed. Where all resamples are alike it says nothing
    of how sure the figure is. Shares that are all 1, or all 0, then get the exact one-sided
    binomial bound, the "rule of three" (Hanley and Lippman-Hand, "If Nothing Goes Wrong, Is
    Everything All Right?", 1983), about 1 - 3 / n; anything else gets None.
    """
    scores = figure(rows)
    if share and scores[0] in (0, 1) and (scores == scores[0]).all():
        return _rule_of_three(len(rows), right=bool(scores[0]))
    if (rows == rows[0]).all():
        return None

    def resampled(chosen: NDArray[np.int64], axis: int) -> Array:
        return figure(rows[chosen].sum(axis=-2))

    low, high = _bootstrapped(np.arange(len(rows)), resampled, _batch(rows))
    return None if np.isclose(low, high, rtol=1e-9) else (low, high)


def median_interval(values: Array) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of a median, by the same bootstrap.

    values: of shape (n,). None where they are all alike, or none.
    """
    if len(np.unique(values)) < 2:
        return None
    return _bootstrapped(values, np.median, _batch(values))


def macro_average_interval(
    right: NDArray[np.int64], n: NDArray[np.int64]
) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of the mean over groups of their shares.

    right, n: of shape (groups,), the rows that are right and all rows of each. The same bootstrap
    within each group, where the right rows of a resample have a binomial distribution. None where
    all resamples are alike.
    """
    drawn = np.random.default_rng(_SEED).binomial(n, right / n, size=(_RESAMPLES, len(n)))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile((drawn / n).mean(axis=1), [tail, 100 - tail])
    return None if np.isclose(low, high, rtol=1e-9) else (float(low), float(high))


def paired_p_value(ours: Array, theirs: Array, figure: Aggregate) -> float:
    """Return how likely chance alone parts two figures of the same rows this far, either way.

    ours, theirs: (n, k), what each row adds to the sums. Scores that are all 0 or 1 are compared by
    the exact McNemar test (McNemar, "Note on the sampling error of the difference between
    correlated proportions or percentages", 1947): the binomial test of the rows that differ. All
    others by the paired permutation test, or approximate randomization (Noreen, "Computer-Intensive
    Methods for Testing Hypotheses", 1989): the two flavors' results are swapped row by row, in
    every way where at most 13 rows differ, else in 9,999 random ways with a fixed seed, where the
    least p-value is 0.0002.
    """
    differs = (ours != theirs).any(axis=1)
    if figure is mean and np.isin([ours[:, 0], theirs[:, 0]], (0, 1)).all():
        better = int((ours[:, 0] > theirs[:, 0]).sum())
        rows = int(differs.sum())
        return float(stats.binomtest(better, rows).pvalue) if rows else 1.0
    if differs.sum() < 2:
        return 1.0  # a swap of one row changes the sign alone
    # The others' swaps change nothing.
    same, pairs = ours[~differs].sum(axis=0), np.concatenate([ours[differs], theirs[differs]])

    def difference(mine: NDArray[np.int64], other: NDArray[np.int64], axis: int) -> Array:
        figures = [figure(same + pairs[chosen].sum(axis=-2)) for chosen in (mine, other)]
        return (figures[0] - figures[1]).round(12)  # sums in another order are still level

    places = np.arange(len(pairs))
    tested: Any = stats.permutation_test(
        tuple(np.split(places, 2)),
        difference,
        permutation_type="samples",
        n_resamples=_RESAMPLES,
        batch=_batch(pairs),
        vectorized=True,
        rng=_SEED,
    )
    return float(tested.pvalue)


def _bootstrapped(sample: Any, statistic: Callable[..., Any], batch: int) -> tuple[float, float]:
    """Return the percentile interval of a statistic, which takes an `axis`, of a sample."""
    found = stats.bootstrap(
        (sample,),
        statistic,
        n_resamples=_RESAMPLES,
        batch=batch,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=_SEED,
    ).confidence_interval
    return float(found.low), float(found.high)


def _rule_of_three(n: int, *, right: bool) -> tuple[float, float]:
    side = "greater" if right else "less"
    bound = stats.binomtest(n if right else 0, n, alternative=side).proportion_ci(CONFIDENCE)
    return float(bound.low), float(bound.high)


def _batch(rows: Array) -> int:
    return max(1, _NUMBERS_AT_ONCE // rows.size)
