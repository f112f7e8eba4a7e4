"""The verdict, on differences of rows with known results."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from slmflow.config.target_advice import Suggestion
from slmflow.metrics.uncertainty import Array, Difference, mean, paired_difference
from slmflow.metrics.verdict import (
    GOOD_ENOUGH,
    NOT_GOOD_ENOUGH,
    TOO_FEW_ROWS,
    Criterion,
    Verdict,
    judge,
)

SUGGESTIONS = (Suggestion("8 bits", ("target=cpu_int8",)),)


def share(value: float, low: float, high: float) -> Criterion:
    return Criterion(Difference(value, low, high))


def ratio(value: float, low: float, high: float) -> Criterion:
    return Criterion(Difference(value, low, high), is_ratio=True)


def answers(n: int, *, lost: int, won: int = 0) -> Criterion:
    """Return the criterion of `n` rows, of which the converted model loses and wins some."""

    def rows(*scores: float) -> Array:
        return np.column_stack([scores, np.ones(n)])

    ours = rows(*[0.0] * lost, *[1.0] * (n - lost))
    theirs = rows(*[1.0] * lost, *[0.0] * won, *[1.0] * (n - lost - won))
    difference = paired_difference(ours, theirs, mean, is_share=True, is_ratio=False)
    assert difference is not None
    return Criterion(difference)


def outcome(n: int, **criteria: Criterion) -> str:
    verdict = judge(criteria, n, 0.05, SUGGESTIONS)
    assert verdict is not None
    return verdict.outcome


def test_worse_end_of_every_interval_must_be_within_the_margin() -> None:
    good = {"exact_match": share(-0.01, -0.05, 0.02), "perplexity": ratio(1.01, 1.0, 1.05)}
    assert judge(good, 195, 0.05, SUGGESTIONS) == Verdict(GOOD_ENOUGH, 0.05, tuple(good))
    for worse in (share(-0.01, -0.0501, 0.02), ratio(1.01, 1.0, 1.0501)):
        verdict = judge(good | {"token_f1": worse}, 195, 0.05, SUGGESTIONS)
        assert verdict is not None
        assert (verdict.outcome, verdict.metrics) == (TOO_FEW_ROWS, ("token_f1",))


def test_one_interval_beyond_the_margin_is_not_good_enough() -> None:
    criteria = {
        "exact_match": share(-0.1, -0.2, -0.04),
        "token_f1": share(-0.1, -0.15, -0.051),
        "perplexity": ratio(1.2, 1.051, 1.4),
    }
    expected = Verdict(NOT_GOOD_ENOUGH, 0.05, ("token_f1", "perplexity"), None, SUGGESTIONS)
    assert judge(criteria, 195, 0.05, SUGGESTIONS) == expected


def test_gains_are_good_enough() -> None:
    assert outcome(195, exact_match=share(0.2, 0.1, 0.3), perplexity=ratio(0.5, 0.4, 0.6)) == (
        GOOD_ENOUGH
    )


def test_few_rows_never_reassure() -> None:
    """Four equal answers have p = 1, and say nothing."""
    assert outcome(4, exact_match=answers(4, lost=0)) == TOO_FEW_ROWS
    assert outcome(4, exact_match=answers(4, lost=4)) == TOO_FEW_ROWS
    assert outcome(30, exact_match=answers(30, lost=0)) == TOO_FEW_ROWS
    assert outcome(195, exact_match=answers(195, lost=0)) == GOOD_ENOUGH
    assert outcome(195, exact_match=answers(195, lost=30)) == NOT_GOOD_ENOUGH


@pytest.mark.parametrize(("lost", "won"), [(8, 3), (9, 5), (15, 1)])
def test_rows_needed_are_enough_if_rows_go_on_alike(lost: int, won: int) -> None:
    verdict = judge({"exact_match": answers(200, lost=lost, won=won)}, 200, 0.05, ())
    assert verdict is not None
    needed = verdict.rows_needed
    assert needed is not None

    def result(rows: float) -> str:
        n = round(rows)
        more = answers(n, lost=round(lost * n / 200), won=round(won * n / 200))
        return outcome(n, exact_match=more)

    assert result(1.3 * needed) == (GOOD_ENOUGH if (lost - won) / 200 < 0.05 else NOT_GOOD_ENOUGH)
    assert result(0.5 * needed) == TOO_FEW_ROWS


def test_difference_of_the_margin_needs_too_many_rows() -> None:
    verdict = judge({"exact_match": share(-0.05, -0.1, 0.0)}, 100, 0.05, ())
    assert verdict == Verdict(TOO_FEW_ROWS, 0.05, ("exact_match",), None)


def test_nothing_is_judged_without_criteria() -> None:
    assert judge({}, 195, 0.05, SUGGESTIONS) is None


def test_verdict_round_trips_through_json() -> None:
    verdict = Verdict(NOT_GOOD_ENOUGH, 0.05, ("token_f1",), 12, SUGGESTIONS)
    assert Verdict.from_json(json.loads(json.dumps(asdict(verdict)))) == verdict
