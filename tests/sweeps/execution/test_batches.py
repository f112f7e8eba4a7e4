"""Which points are measured side by side."""

import pytest

from slmflow.sweeps import points
from slmflow.sweeps.execution.batches import batches

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
def test_those_that_share_the_reference_and_the_rows(
    overrides: list[str], sizes: list[int]
) -> None:
    asked = points.read(overrides)

    parted = batches(asked, at_once=1)

    assert [len(batch) for batch in parted] == sizes
    assert sorted(p.name for batch in parted for p in batch) == sorted(p.name for p in asked)


@pytest.mark.parametrize(
    ("at_once", "sizes"), [(1, [3]), (2, [1, 2]), (3, [1, 1, 1]), (8, [1, 1, 1])]
)
def test_there_is_work_for_everyone(at_once: int, sizes: list[int]) -> None:
    assert [len(batch) for batch in batches(points.read([TARGETS]), at_once)] == sizes
