"""What the scheduler learns of the time that things take."""

from math import isclose

import pytest

from slmflow.runtime.scheduling.costs import Costs


def test_a_step_grows_in_a_line_with_its_rows() -> None:
    costs = Costs()
    for rows in (1, 4, 16):
        costs.stepped(rows, 0.004 + 0.002 * rows)
    assert isclose(costs.own_s, 0.004)
    assert isclose(costs.step_s(8), 0.020)


def test_until_it_is_measured_a_step_is_guessed_from_prompts_and_then_from_one_kind_of_steps() -> (
    None
):
    costs = Costs()
    costs.read(200, 0.2)
    assert isclose(costs.reading_s(50), 0.05)
    guessed = costs.step_s(1), costs.step_s(8)
    assert 0.001 < guessed[0] < guessed[1] < 8 * guessed[0]
    costs.stepped(8, 2 * guessed[1])
    assert isclose(costs.step_s(1), 2 * guessed[0])


def test_a_single_slow_step_counts_little() -> None:
    costs = Costs()
    costs.stepped(1, 0.01)
    costs.stepped(1, 0.02)
    assert 0.01 < costs.step_s(1) < 0.015


@pytest.mark.parametrize("seconds", [{1: 0.02, 2: 0.01}, {1: 0.0, 2: 0.01}, {1: 0.001, 16: 0.1}])
def test_whatever_noise_there_is_a_step_costs_more_than_a_row_and_no_row_less_than_nothing(
    seconds: dict[int, float],
) -> None:
    costs = Costs()
    for rows, measured in seconds.items():
        costs.stepped(rows, measured)
    row = costs.step_s(9) - costs.step_s(8)
    assert costs.own_s > 0
    assert costs.own_s >= row - 1e-12
    assert row >= 0
