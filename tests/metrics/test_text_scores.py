import math

import numpy as np
import pytest

from slmflow.metrics.text_scores import (
    TextScore,
    contains,
    exact_match,
    first_difference,
    perplexity,
    shared_prefix,
    token_f1,
)


@pytest.mark.parametrize(
    ("metric", "answer", "expected", "score"),
    [
        (exact_match, "Paris.", "Paris.", 1),
        (exact_match, " Paris.\n", "Paris.", 1),
        (exact_match, "paris.", "Paris.", 0),
        (exact_match, "", "a", 0),
        (token_f1, "The capital is PARIS!", "capital is paris", 1),  # case, punctuation, article
        (token_f1, "Paris", "Rome", 0),
        (token_f1, "the city of Paris", "Paris", 0.5),  # 1 of 3 words, 1 of 1: 2 * 1/3 / (4/3)
        (
            token_f1,
            "Paris Paris",
            "Paris",
            2 / 3,
        ),  # repeated words count as often as both have them
        (token_f1, "the", "a", 1),  # both are empty after normalization
        (token_f1, "", "Paris", 0),
        (contains, "It is Paris.", " Paris.\n", 1),
        (contains, "It is paris.", "Paris.", 0),
        (contains, "", "Paris.", 0),
    ],
)
def test_text_scores(metric: TextScore, answer: str, expected: str, score: float) -> None:
    assert metric(answer, expected) == pytest.approx(score)


def test_perplexity_is_over_tokens_not_rows() -> None:
    rows = np.array([[math.log(1 / 2), 1], [3 * math.log(1 / 8), 3]])
    # (1/2 * 1/8 * 1/8 * 1/8) ** (-1/4) = 2 ** (10/4)
    assert perplexity(rows.sum(axis=0)) == pytest.approx(2**2.5)
    assert perplexity(rows).tolist() == pytest.approx([2, 8])


@pytest.mark.parametrize(
    ("ours", "theirs", "position", "share"),
    [
        ([1, 2, 3], [1, 2, 3], None, 1),
        ([1, 2, 4], [1, 2, 3], 3, 2 / 3),
        ([4], [1, 2, 3], 1, 0),
        ([1, 2], [1, 2, 3], 3, 2 / 3),  # ends early
        ([1, 2, 3, 4], [1, 2, 3], 4, 3 / 4),
        ([1, 4, 3], [1, 2, 3], 2, 1 / 3),  # equal tokens after a difference do not count
        ([], [1], 1, 0),
        ([], [], None, 1),
    ],
)
def test_first_difference_and_shared_prefix(
    ours: list[int], theirs: list[int], position: int | None, share: float
) -> None:
    assert first_difference(ours, theirs) == position
    assert shared_prefix(ours, theirs) == pytest.approx(share)
