"""Intervals and tests, compared with exact distributions and manual calculations."""

import itertools
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from slmflow.metrics.uncertainty import Array, confidence_interval, mean, paired_p_value


def interval(rows: Array, *, is_share: bool) -> tuple[float, float] | None:
    return confidence_interval(rows, mean, is_share=is_share)


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def mean_rows(*scores: float) -> Array:
    """Return the statistics of a mean: the scores, each with the count 1."""
    return np.column_stack([scores, np.ones(len(scores))])


@pytest.mark.parametrize("correct", [100, 180, 199])
def test_interval_of_a_share_is_binomial(correct: int) -> None:
    """The mean of resampled zeros and ones has the distribution Binomial(n, share) / n."""
    rows = mean_rows(*[1.0] * correct, *[0.0] * (200 - correct))
    exact = stats.binom.ppf([0.025, 0.975], 200, correct / 200) / 200
    assert interval(rows, is_share=True) == pytest.approx(tuple(exact), abs=0.006)


def test_interval_of_many_rows_is_normal() -> None:
    scores = np.random.default_rng(1).normal(3, 2, size=2000)
    half = 1.96 * scores.std() / np.sqrt(2000)
    expected = (scores.mean() - half, scores.mean() + half)
    assert interval(mean_rows(*scores), is_share=False) == pytest.approx(expected, abs=0.01)


def test_ratio_of_sums_is_resampled_by_rows() -> None:
    """If each row has the ratio 1/2, so has every resample, whatever the size of the rows."""
    rows = np.array([[1.0, 2.0], [3.0, 6.0], [50.0, 100.0]])
    assert interval(rows, is_share=False) is None
    low, high = interval(np.array([[0.0, 9.0], [1.0, 1.0]]), is_share=False) or (1, 0)
    assert (low, high) == (0, 1)


def test_interval_is_reproducible() -> None:
    rows = mean_rows(*np.linspace(0, 1, 30))
    assert interval(rows, is_share=True) == interval(rows, is_share=True)


def test_equal_shares_use_the_rule_of_three() -> None:
    """With the share 0.05 ** (1 / n), n of n rows are correct once in 20 times."""
    bound = 0.05 ** (1 / 195)
    assert interval(mean_rows(*[1.0] * 195), is_share=True) == (pytest.approx(bound), 1)
    assert interval(mean_rows(*[0.0] * 195), is_share=True) == (0, pytest.approx(1 - bound))
    assert interval(mean_rows(1.0), is_share=True) == (pytest.approx(0.05), 1)


def test_equal_rows_have_no_interval() -> None:
    assert interval(mean_rows(0.1, 0.1, 0.1), is_share=True) is None
    assert interval(mean_rows(1.0, 1.0), is_share=False) is None
    assert interval(mean_rows(7.5), is_share=False) is None


@pytest.mark.parametrize(
    ("better", "worse", "expected"),
    [
        (0, 5, 2 / 2**5),
        (1, 5, 2 * (1 + 6) / 2**6),
        (3, 3, 1.0),
        (0, 0, 1.0),
        (0, 1, 1.0),
        (10, 30, 2 * stats.binom.cdf(10, 40, 0.5)),
    ],
)
def test_binary_scores_use_mcnemar(better: int, worse: int, expected: float) -> None:
    ours = mean_rows(*[1.0] * better, *[0.0] * worse, 1.0, 0.0, 1.0)
    theirs = mean_rows(*[0.0] * better, *[1.0] * worse, 1.0, 0.0, 1.0)
    assert paired_p_value(ours, theirs, mean) == pytest.approx(expected)
    assert paired_p_value(theirs, ours, mean) == pytest.approx(expected)


def test_few_rows_are_tested_by_all_swaps() -> None:
    ours, theirs = [0.5, 0.25, 0.9, 0.8, 1.0, 0.3], [1.0, 0.5, 0.8, 1.0, 1.0, 0.3]
    observed = sum(ours) - sum(theirs)
    differences = np.subtract(ours, theirs)
    swapped = [float(np.dot(signs, differences)) for signs in itertools.product([1, -1], repeat=6)]
    as_far = sum(abs(total) >= abs(observed) - 1e-9 for total in swapped)
    # -0.85, -1.05 and their opposites, 4 times each: 2 rows are equal in both.
    assert as_far == 16
    assert paired_p_value(mean_rows(*ours), mean_rows(*theirs), mean) == pytest.approx(as_far / 64)


def test_many_rows_agree_with_the_t_test() -> None:
    """For many rows, the permutation test approaches the paired t-test."""
    random = np.random.default_rng(2)
    theirs = random.normal(0.7, 0.1, size=200)
    ours = theirs - random.normal(0.01, 0.07, size=200)
    expected = stats.ttest_rel(ours, theirs).pvalue
    assert 0.01 < expected < 0.2
    assert paired_p_value(mean_rows(*ours), mean_rows(*theirs), mean) == pytest.approx(
        expected, abs=0.01
    )


def test_equal_sums_have_p_value_1() -> None:
    rows = mean_rows(0.1, 0.2, 0.30000000000000004)
    assert paired_p_value(rows, rows.copy(), mean) == 1
    assert paired_p_value(mean_rows(0.5), mean_rows(0.7), mean) == 1
    # Rounding errors of the sums must not count as a difference.
    assert paired_p_value(mean_rows(0.1, 0.2, 0.3), mean_rows(0.3, 0.1, 0.2), mean) == 1


def test_smallest_p_value_follows_from_the_number_of_swaps() -> None:
    ours, theirs = np.linspace(0.1, 0.2, 200), np.linspace(0.8, 0.9, 200)
    assert paired_p_value(mean_rows(*ours), mean_rows(*theirs), mean) == pytest.approx(2 / 10_000)
