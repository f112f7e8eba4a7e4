"""The sample of rows that is timed."""

from hypothesis import given
from hypothesis import strategies as st

from slmflow.datasets.rows import Row
from slmflow.measurement import timed_rows


def rows(*lengths: int) -> list[Row]:
    return [Row([{"role": "user", "content": "x" * length}], "") for length in lengths]


def test_each_stratum_of_prompt_lengths_gives_its_middle_row() -> None:
    assert timed_rows.select(rows(1, 90, 2, 91, 3, 92), 2) == [2, 3]


def test_few_rows_are_all_timed() -> None:
    assert timed_rows.select(rows(5, 4, 3), 32) == [0, 1, 2]
    assert timed_rows.select([], 32) == []


def test_excluded_rows_are_not_timed() -> None:
    assert timed_rows.select(rows(1, 2, 3), 3, frozenset({1})) == [0, 2]


@given(st.lists(st.integers(0, 50)), st.integers(0, 40))
def test_sample_has_the_size_that_was_requested(lengths: list[int], count: int) -> None:
    selected = timed_rows.select(rows(*lengths), count)
    assert len(selected) == min(count, len(lengths))
    assert selected == sorted(set(selected))
