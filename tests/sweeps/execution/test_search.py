"""The space of a search with Optuna, and its points. tests/steps/test_sweep.py runs one."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from slmflow.errors import BadArguments
from slmflow.sweeps import points
from slmflow.sweeps.arguments import parse_arguments
from slmflow.sweeps.execution import search


def test_search_space_follows_overrides() -> None:
    overrides = ["target=cpu_int8,cpu_int4", "a=interval(0,1)", "b=tag(log,interval(1,8))", "c=1"]

    assert search.search_space(overrides) == {
        "target": CategoricalDistribution(["cpu_int8", "cpu_int4"]),
        "a": FloatDistribution(0, 1),
        "b": FloatDistribution(1, 8, log=True),
    }
    point = points.with_values(overrides, {"target": "cpu_int4", "a": "0.5", "b": "2"})
    assert point.overrides == ("target=cpu_int4", "a=0.5", "b=2", "c=1")
    assert point.name == "target=cpu_int4 a=0.5 b=2"


def test_both_ends_of_interval_are_validated() -> None:
    with pytest.raises(BadArguments, match=r"temperature=3\.0: must be between 0 and 2"):
        parse_arguments(["generation.temperature=interval(0,3)", "sweep.search=best"])
