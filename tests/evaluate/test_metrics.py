import pytest

from steps.evaluate.metrics import (
    contains,
    exact_match,
    first_diverging_word,
    shared_prefix,
    token_f1,
)


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [("Paris.", "Paris.", 1), (" Paris.\n", "Paris.", 1), ("paris.", "Paris.", 0), ("", "a", 0)],
)
def test_exact_match(answer: str, expected: str, score: float) -> None:
    assert exact_match(answer, expected) == score


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [
        ("The capital is PARIS!", "capital is paris", 1),  # case, punctuation, article
        ("Paris", "Rome", 0),
        ("the city of Paris", "Paris", 0.5),  # 1 of 3 words, 1 of 1: 2 * 1/3 / (4/3)
        ("Paris Paris", "Paris", 2 / 3),  # a word counts as often as both have it
        ("the", "a", 1),  # nothing is left of either
        ("", "Paris", 0),
    ],
)
def test_token_f1(answer: str, expected: str, score: float) -> None:
    assert token_f1(answer, expected) == pytest.approx(score)


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [("It is Paris.", " Paris.\n", 1), ("It is paris.", "Paris.", 0), ("", "Paris.", 0)],
)
def test_contains(answer: str, expected: str, score: float) -> None:
    assert contains(answer, expected) == score


@pytest.mark.parametrize(
    ("answer", "reference", "position", "share"),
    [
        ("It is Paris.", "It is  Paris.\n", None, 1),  # white space is no word
        ("It is Rome.", "It is Paris.", 3, 2 / 3),
        ("Rome.", "It is Paris.", 1, 0),
        ("It is", "It is Paris.", 3, 2 / 3),  # it stops where the other goes on
        ("It is Paris. Yes.", "It is Paris.", 4, 3 / 4),
        ("It was Paris.", "It is Paris.", 2, 1 / 3),  # the same words later do not count
        ("", "Paris.", 1, 0),
        ("", " ", None, 1),
    ],
)
def test_divergence(answer: str, reference: str, position: int | None, share: float) -> None:
    assert first_diverging_word(answer, reference) == position
    assert shared_prefix(answer, reference) == pytest.approx(share)
