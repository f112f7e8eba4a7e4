"""The grid, compared with Hydra's own sweeper, and overrides that cannot be swept."""

import itertools
import re

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from slmflow.sweeps import points

GRIDS = [
    ["target=cpu_fp32,cpu_int8", "generation.temperature=0.0,0.7"],
    ["target=choice(cpu_fp32,cpu_int8)", "evaluation.limit=5"],
    ["target.quantization.block_size=range(16,65,16)"],
    ["generation.temperature=range(0,1,0.25)", "target.quantization.eight_bit=[],[lm_head]"],
    ["target.quantization.symmetric=true,false"],
    ["generation.template.enable_thinking=true,false", "target=cpu_int4"],
]


@pytest.mark.parametrize("overrides", GRIDS)
def test_grid_equals_hydra_sweeper(overrides: list[str]) -> None:
    parsed = OverridesParser.create().parse_overrides(overrides)
    [expected] = BasicSweeper.split_arguments(parsed, None)

    assert [list(point.overrides) for point in points.grid(overrides)] == expected


def test_point_name_lists_swept_values() -> None:
    text = "evaluation.template='Q: {question}, in a word'"

    named = points.grid(["target=cpu_fp32,cpu_int8", text, "generation.temperature=0.0,0.7"])

    assert [point.name for point in named] == [
        f"target={target} generation.temperature={temperature}"
        for target, temperature in itertools.product(("cpu_fp32", "cpu_int8"), ("0.0", "0.7"))
    ]
    assert all(text in point.overrides for point in named)


def test_repeated_value_makes_one_point() -> None:
    assert len(points.grid(["target=cpu_int8,cpu_int8"])) == 1


def test_values_are_numbers_or_booleans_if_possible() -> None:
    keys = ["a=0.5,1", "b=true,false", "c=x,y", "d=[],[x]"]

    last = points.grid(keys)[-1]

    assert [last.value(key) for key in "abcd"] == [1, False, "y", "[x]"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "nothing to sweep over: .* sweep=targets"),
        (["target=cpu_int8"], "nothing to sweep over"),
        (["registry.alias=a,b"], "registry.alias does not change .* generation"),
        (["sweep.workers=1,2"], "sweep.workers does not change"),
        (["generation.temperature=interval(0,1)"], "a grid needs countable values"),
    ],
)
def test_unsweepable_overrides_are_explained(overrides: list[str], message: str) -> None:
    [problem] = points.find_problems(overrides, countable=True)

    assert re.search(message, problem)
