"""Intervals and tests, compared with exact distributions and manual calculations."""

import inspect
import itertools
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from slmflow.metrics.text_scores import perplexity
from slmflow.metrics.uncertainty import (
    Array,
    Difference,
    confidence_interval,
    mean,
    paired_difference,
    paired_p_value,
)


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
    estimate = inspect.unwrap(confidence_interval)  # which remembers no estimate
    first, second = (estimate(rows, mean, is_share=True) for _ in range(2))
    assert first == second == interval(rows, is_share=True)


def test_equal_values_of_other_options_or_shapes_are_estimated_again() -> None:
    rows = mean_rows(*[1.0] * 4)
    assert interval(rows, is_share=True) != interval(rows, is_share=False)
    assert interval(rows, is_share=True) != interval(rows[:3], is_share=True)
    shares = paired_difference(rows, 0 * rows + [0, 1], mean, is_share=True, is_ratio=False)
    assert shares != paired_difference(rows, 0 * rows + [0, 1], mean, is_ratio=False)


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


def difference_of_shares(ours: Array, theirs: Array) -> Difference:
    found = paired_difference(ours, theirs, mean, is_share=True, is_ratio=False)
    assert found is not None
    return found


@pytest.mark.parametrize(("n", "won", "lost"), [(195, 2, 9), (195, 20, 30), (60, 0, 6)])
def test_difference_of_shares_is_that_of_bonett_and_price(n: int, won: int, lost: int) -> None:
    """Their adjusted Wald interval for paired proportions, from the formula of the paper."""
    ours = mean_rows(*[1.0] * won, *[0.0] * lost, *[1.0] * (n - won - lost))
    theirs = mean_rows(*[0.0] * won, *[1.0] * lost, *[1.0] * (n - won - lost))
    p_won, p_lost = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    middle = p_won - p_lost
    half = 1.96 * np.sqrt((p_won + p_lost - middle**2) / (n + 2))
    found = difference_of_shares(ours, theirs)
    assert found.value == pytest.approx((won - lost) / n)
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=0.012)


def test_few_or_equal_rows_leave_the_difference_open() -> None:
    one, zero = mean_rows(*[1.0] * 4), mean_rows(*[0.0] * 4)
    assert difference_of_shares(one, one.copy()) == Difference(0, -0.5, 0.5)
    all_lost = difference_of_shares(zero, one)
    assert (all_lost.value, all_lost.low, all_lost.high) == (-1, -1, 0)
    assert difference_of_shares(mean_rows(0.5), mean_rows(0.5)).high > 0.5


def test_difference_of_shares_covers_the_true_one() -> None:
    """In at least 95 % of repeated evaluations; with rare differences in more."""
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(150):
        kinds = random.choice(3, 60, p=[0.03, 0.1, 0.87])
        ours, theirs = (mean_rows(*(kinds != kind).astype(float)) for kind in (1, 0))
        found = difference_of_shares(ours, theirs)
        covered += found.low <= 0.03 - 0.1 <= found.high
    assert covered / 150 > 0.92


@pytest.mark.parametrize("n", [8, 30, 2000])
def test_difference_of_numbers_is_as_wide_as_students(n: int) -> None:
    random = np.random.default_rng(4)
    theirs = random.normal(3, 1, n)
    ours = theirs + random.normal(0.2, 0.5, n)
    found = paired_difference(mean_rows(*ours), mean_rows(*theirs), mean, is_ratio=False)
    student = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found is not None
    width = student.high - student.low
    assert (found.low, found.high) == pytest.approx((student.low, student.high), abs=width / 8)


def test_ratio_of_perplexities_compares_the_same_rows() -> None:
    random = np.random.default_rng(5)
    tokens = random.integers(3, 30, 100).astype(float)
    theirs = np.column_stack([-tokens * random.uniform(0.1, 3, 100), tokens])
    ours = theirs - [[0.02, 0]] * tokens[:, None]
    found = paired_difference(ours, theirs, perplexity, is_ratio=True)
    assert found is not None
    # Every token loses 0.02 nats, so there is nothing to vary, however the rows differ.
    assert (found.value, found.low, found.high) == pytest.approx((np.exp(0.02),) * 3)
    equal = paired_difference(theirs, theirs, perplexity, is_ratio=True)
    assert equal == Difference(1, 1, 1)


def test_difference_without_rows_or_finite_values_is_unknown() -> None:
    one_row = np.array([[-1.0, 2.0]])
    assert paired_difference(one_row, one_row, perplexity, is_ratio=True) is None
    no_tokens = np.array([[0.0, 0.0], [0.0, 0.0]])
    assert paired_difference(no_tokens, no_tokens, perplexity, is_ratio=True) is None
