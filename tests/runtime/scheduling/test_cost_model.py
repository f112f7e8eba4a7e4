"""Durations predicted from measurements."""

from math import isclose

import pytest

from slmflow.runtime.scheduling.cost_model import CostModel


def test_step_duration_is_linear_in_rows() -> None:
    costs = CostModel()
    for rows in (1, 4, 16):
        costs.record_step(rows, 0.004 + 0.002 * rows)
    assert isclose(costs.step_overhead_s, 0.004)
    assert isclose(costs.step_s(8), 0.020)


def test_unmeasured_steps_are_estimated() -> None:
    """From prefill first, then from steps with another number of rows."""
    costs = CostModel()
    costs.record_prefill(200, 0.2)
    assert isclose(costs.prefill_s(50), 0.05)
    estimated = costs.step_s(1), costs.step_s(8)
    assert 0.001 < estimated[0] < estimated[1] < 8 * estimated[0]
    costs.record_step(8, 2 * estimated[1])
    assert isclose(costs.step_s(1), 2 * estimated[0])


def test_single_slow_step_counts_little() -> None:
    costs = CostModel()
    costs.record_step(1, 0.01)
    costs.record_step(1, 0.02)
    assert 0.01 < costs.step_s(1) < 0.015


@pytest.mark.parametrize("seconds", [{1: 0.02, 2: 0.01}, {1: 0.0, 2: 0.01}, {1: 0.001, 16: 0.1}])
def test_noise_never_makes_rows_or_steps_free(seconds: dict[int, float]) -> None:
    costs = CostModel()
    for rows, measured in seconds.items():
        costs.record_step(rows, measured)
    row = costs.step_s(9) - costs.step_s(8)
    assert costs.step_overhead_s > 0
    assert costs.step_overhead_s >= row - 1e-12
    assert row >= 0
