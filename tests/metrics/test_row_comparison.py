import pandas as pd
import pytest

from slmflow.metrics.row_comparison import Regression, RowComparison
from tests.metrics.samples import HOSTILE, TABLE


def test_rows_are_counted_and_regressions_keep_their_order() -> None:
    rows = RowComparison.of(TABLE)
    assert [row.answer for row in rows.regressions] == [HOSTILE, "It is Paris"]
    assert [row.first_diverging_token for row in rows.regressions] == [1, 4]
    assert (rows.rows, rows.better, rows.otherwise) == (5, 1, 1)
    assert rows.counts == (
        "Of 5 rows 2 are answered worse, 1 better, 1 in other words but no worse or better, "
        "1 in the same words."
    )


def test_a_lower_token_f1_is_a_regression_where_neither_is_exact() -> None:
    row = ("q", "one two three", "one two", "one", 2)
    rows = RowComparison.of(pd.DataFrame([row], columns=list(TABLE)))
    assert rows.regressions == (Regression("q", "one two three", "one two", "one", 2),)


def test_a_right_choice_that_is_lost_is_a_regression_whatever_is_written() -> None:
    row = {"question": "q", "answer": "B", "reference": "A", "prediction": "B"}
    lost = row | {"reference_choice": "B", "choice": "A", "first_diverging_token": 1}
    untold = lost | {"choice": None}
    rows = RowComparison.of(pd.DataFrame([lost, untold]))
    assert [each.choices for each in rows.regressions] == [("B", "A"), None]


@pytest.mark.parametrize(
    ("reference", "answer", "same"),
    [("Tokyo", "Toronto", 2), ("Paris.", "Paris", 5), ("", "a", 0), ("あい", "あう", 1)],
)
def test_where_two_texts_part(reference: str, answer: str, same: int) -> None:
    assert Regression("q", "e", reference, answer, None).same == same
