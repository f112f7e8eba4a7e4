import pandas as pd
import pytest

from slmflow.metrics.row_comparison import Regression, RowComparison
from tests.metrics.samples import ANSWER_TABLE, HOSTILE


def test_rows_are_counted_and_regressions_stay_ordered() -> None:
    rows = RowComparison.from_table(ANSWER_TABLE)
    assert [row.answer for row in rows.regressions] == [HOSTILE, "It is Par"]
    assert [row.first_diverging_token for row in rows.regressions] == [1, 4]
    assert (rows.rows, rows.better, rows.reworded) == (5, 1, 1)
    assert rows.summary == (
        "Of 5 rows, 2 are answered worse, 1 better, 1 differently with the same scores, "
        "and 1 identically."
    )


def test_lower_token_f1_is_a_regression() -> None:
    row = ("q", "one two three", "one two", "one", 2)
    rows = RowComparison.from_table(pd.DataFrame([row], columns=list(ANSWER_TABLE)))
    assert rows.regressions == (Regression("q", "one two three", "one two", "one", 2),)


def test_every_accepted_answer_is_right() -> None:
    rows = pd.DataFrame(
        [("q", "Paris", "Paname", "PARIS.", 1), ("r", "Paris", "Paris", "Rome", 1)],
        columns=list(ANSWER_TABLE),
    ).assign(other_answers=[["Paname"], ["Paname", "Lutetia"]])
    comparison = RowComparison.from_table(rows)
    assert (comparison.better, comparison.reworded) == (0, 1)
    assert [row.question for row in comparison.regressions] == ["r"]
    assert comparison.regressions[0].expected == "Paris / Paname / Lutetia"


def test_lost_correct_choice_is_a_regression() -> None:
    row = {"question": "q", "answer": "B", "reference": "A", "prediction": "B"}
    lost = row | {"reference_choice": "B", "choice": "A", "first_diverging_token": 1}
    unscored = lost | {"choice": None}
    rows = RowComparison.from_table(pd.DataFrame([lost, unscored]))
    assert [each.choices for each in rows.regressions] == [("B", "A"), None]


@pytest.mark.parametrize(
    ("reference", "answer", "length"),
    [("Tokyo", "Toronto", 2), ("Paris.", "Paris", 5), ("", "a", 0), ("あい", "あう", 1)],
)
def test_shared_length_is_that_of_the_common_prefix(
    reference: str, answer: str, length: int
) -> None:
    assert Regression("q", "e", reference, answer, None).shared_length == length
