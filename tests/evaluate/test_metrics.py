import pytest

from steps.evaluate.metrics import exact_match, token_f1


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
