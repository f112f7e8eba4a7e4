"""Which points are measured together."""

import pytest

from slmflow.sweeps import points
from slmflow.sweeps.execution.point_groups import group_points

TARGETS = "target=cpu_fp32,cpu_int8,cpu_int4"


@pytest.mark.parametrize(
    ("overrides", "sizes"),
    [
        ([TARGETS], [3]),
        ([TARGETS, "generation.temperature=0.0,0.7"], [3, 3]),
        ([TARGETS, "log_genai.interface=chat,prompt"], [6]),
        (["generation.temperature=0.0,0.7"], [1, 1]),
        (["evaluation.seed=1,2"], [1, 1]),
        (["evaluation.limit=5,6", "target=cpu_int8,cpu_int4"], [2, 2]),
    ],
)
def test_groups_share_reference_and_rows(overrides: list[str], sizes: list[int]) -> None:
    grid = points.grid(overrides)

    groups = group_points(grid, at_least=1)

    assert [len(group) for group in groups] == sizes
    assert sorted(p.name for group in groups for p in group) == sorted(p.name for p in grid)


@pytest.mark.parametrize(
    ("workers", "sizes"), [(1, [3]), (2, [1, 2]), (3, [1, 1, 1]), (8, [1, 1, 1])]
)
def test_large_groups_are_split_for_workers(workers: int, sizes: list[int]) -> None:
    assert [len(group) for group in group_points(points.grid([TARGETS]), workers)] == sizes
