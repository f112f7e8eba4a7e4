"""Intervals and tests against values known otherwise: exact distributions, and by hand."""

import itertools
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from slmflow.metrics.uncertainty import Array, confidence_interval, mean, paired_p_value


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def scored(*scores: float) -> Array:
    """Return the rows of a mean: the scores, each with the count 1."""
    return np.column_stack([scores, np.ones(len(scores))])


@pytest.mark.parametrize("right", [100, 180, 199])
def test_interval_of_a_share_is_of_its_binomial_distribution(right: int) -> None:
    """The mean of resampled zeros and ones is distributed as Binomial(n, share) / n."""
    rows = scored(*[1.0] * right, *[0.0] * (200 - right))
    exact = stats.binom.ppf([0.025, 0.975], 200, right / 200) / 200
    assert confidence_interval(rows, mean, share=True) == pytest.approx(tuple(exact), abs=0.006)


def test_interval_of_many_rows_is_the_normal_one() -> None:
    scores = np.random.default_rng(1).normal(3, 2, size=2000)
    half = 1.96 * scores.std() / np.sqrt(2000)
    expected = (scores.mean() - half, scores.mean() + half)
    assert confidence_interval(scored(*scores), mean, share=False) == pytest.approx(expected, abs=0.01)


def test_a_ratio_of_sums_is_resampled_by_rows() -> None:
    """Where each row has the ratio 1/2, so has every resample, however the rows differ in size."""
    rows = np.array([[1.0, 2.0], [3.0, 6.0], [50.0, 100.0]])
    assert confidence_interval(rows, mean, share=False) is None
    low, high = confidence_interval(np.array([[0.0, 9.0], [1.0, 1.0]]), mean, share=False) or (1, 0)
    assert (low, high) == (0, 1)


def test_repeats_give_the_same_interval() -> None:
    rows = scored(*np.linspace(0, 1, 30))
    assert confidence_interval(rows, mean, share=True) == confidence_interval(rows, mean, share=True)


def test_interval_of_shares_that_are_all_alike_is_the_rule_of_three() -> None:
    """0.05 ** (1 / n): the share with which n rows in a row are right once in 20 times."""
    assert confidence_interval(scored(*[1.0] * 195), mean, share=True) == (pytest.approx(0.05 ** (1 / 195)), 1)
    assert confidence_interval(scored(*[0.0] * 195), mean, share=True) == (
        0,
        pytest.approx(1 - 0.05 ** (1 / 195)),
    )
    assert confidence_interval(scored(1.0), mean, share=True) == (pytest.approx(0.05), 1)


def test_no_interval_where_rows_do_not_vary() -> None:
    assert confidence_interval(scored(0.1, 0.1, 0.1), mean, share=True) is None
    assert confidence_interval(scored(1.0, 1.0), mean, share=False) is None
    assert confidence_interval(scored(7.5), mean, share=False) is None


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
def test_zeros_and_ones_are_tested_by_mcnemar(better: int, worse: int, expected: float) -> None:
    ours = scored(*[1.0] * better, *[0.0] * worse, 1.0, 0.0, 1.0)
    theirs = scored(*[0.0] * better, *[1.0] * worse, 1.0, 0.0, 1.0)
    assert paired_p_value(ours, theirs, mean) == pytest.approx(expected)
    assert paired_p_value(theirs, ours, mean) == pytest.approx(expected)


def test_scores_are_tested_by_all_their_swaps() -> None:
    ours, theirs = [0.5, 0.25, 0.9, 0.8, 1.0, 0.3], [1.0, 0.5, 0.8, 1.0, 1.0, 0.3]
    observed = sum(ours) - sum(theirs)
    differences = np.subtract(ours, theirs)
    swapped = [float(np.dot(signs, differences)) for signs in itertools.product([1, -1], repeat=6)]
    as_far = sum(abs(total) >= abs(observed) - 1e-9 for total in swapped)
    # -0.85 and -1.05 and their opposites, each 4 times: 2 rows are the same either way.
    assert as_far == 16
    assert paired_p_value(scored(*ours), scored(*theirs), mean) == pytest.approx(as_far / 64)


def test_many_rows_are_tested_as_the_signed_ranks_of_large_samples_are() -> None:
    """Against the paired t test, which permutation approaches for many well-behaved rows."""
    random = np.random.default_rng(2)
    theirs = random.normal(0.7, 0.1, size=200)
    ours = theirs - random.normal(0.01, 0.07, size=200)
    expected = stats.ttest_rel(ours, theirs).pvalue
    assert 0.01 < expected < 0.2
    assert paired_p_value(scored(*ours), scored(*theirs), mean) == pytest.approx(expected, abs=0.01)


def test_no_difference_is_none() -> None:
    rows = scored(0.1, 0.2, 0.30000000000000004)
    assert paired_p_value(rows, rows.copy(), mean) == 1
    assert paired_p_value(scored(0.5), scored(0.7), mean) == 1
    # 0.1 + 0.2 is not 0.3 to a computer: the sums are level all the same.
    assert paired_p_value(scored(0.1, 0.2, 0.3), scored(0.3, 0.1, 0.2), mean) == 1


def test_the_least_p_value_is_that_of_the_swaps_made() -> None:
    ours, theirs = np.linspace(0.1, 0.2, 200), np.linspace(0.8, 0.9, 200)
    assert paired_p_value(scored(*ours), scored(*theirs), mean) == pytest.approx(2 / 10_000)
