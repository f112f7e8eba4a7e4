"""What several values stand for: against Hydra's own sweeper, and what is refused."""

import itertools
import re

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from slmflow.sweeps import points

SWEEPS = [
    ["target=cpu_fp32,cpu_int8", "generation.temperature=0.0,0.7"],
    ["target=choice(cpu_fp32,cpu_int8)", "evaluation.limit=5"],
    ["target.quantization.block_size=range(16,65,16)"],
    ["generation.temperature=range(0,1,0.25)", "target.quantization.eight_bit=[],[lm_head]"],
    ["target.quantization.symmetric=true,false"],
]


@pytest.mark.parametrize("overrides", SWEEPS)
def test_the_grid_is_that_of_hydra(overrides: list[str]) -> None:
    parsed = OverridesParser.create().parse_overrides(overrides)
    [expected] = BasicSweeper.split_arguments(parsed, None)

    assert [list(point.overrides) for point in points.read(overrides)] == expected


def test_a_point_is_named_after_what_it_differs_in() -> None:
    text = "evaluation.template='Q: {question}, in a word'"

    named = points.read(["target=cpu_fp32,cpu_int8", text, "generation.temperature=0.0,0.7"])

    assert [point.name for point in named] == [
        f"target={target} generation.temperature={temperature}"
        for target, temperature in itertools.product(("cpu_fp32", "cpu_int8"), ("0.0", "0.7"))
    ]
    assert all(text in point.overrides for point in named)


def test_a_value_that_is_given_twice_is_one_point() -> None:
    assert len(points.read(["target=cpu_int8,cpu_int8"])) == 1


def test_values_are_numbers_and_truth_values_where_they_can_be() -> None:
    keys = ["a=0.5,1", "b=true,false", "c=x,y", "d=[],[x]"]

    last = points.read(keys)[-1]

    assert [last.value(key) for key in "abcd"] == [1, False, "y", "[x]"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "nothing to sweep over: .* sweep=targets"),
        (["target=cpu_int8"], "nothing to sweep over"),
        (["registry.alias=a,b"], "another registry.alias changes nothing .* generation"),
        (["sweep.workers=1,2"], "another sweep.workers changes nothing"),
        (["generation.temperature=interval(0,1)"], "a grid needs values that can be counted"),
    ],
)
def test_what_cannot_be_swept_over_is_said(overrides: list[str], said: str) -> None:
    [problem] = points.problems(overrides, countable=True)

    assert re.search(said, problem)
