"""Several completions of one request."""

from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from slmflow.runtime.generation.repeats import repeat

LAST = 2**63 - 1


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, [{}]),
        ({"n": 1, "seed": 2**64}, [{"seed": 2**64}]),  # for the model to reject
        ({"n": 3}, [{}, {}, {}]),
        ({"n": 3, "seed": 7}, [{"seed": 7}, {"seed": 8}, {"seed": 9}]),
        ({"n": 2, "seed": LAST}, [{"seed": LAST}, {"seed": 0}]),
        ({"n": 2, "seed": -1}, [{"seed": -1}, {"seed": -1}]),  # drawn for each
    ],
)
def test_seeds_follow_each_other(request_: dict[str, Any], expected: list[Any]) -> None:
    assert repeat({**request_, "prompt": "x"}) == [{**each, "prompt": "x"} for each in expected]


@pytest.mark.parametrize("n", [0, 9, -1, True, 1.0, "2", None, [1]])
def test_invalid_number_is_named(n: Any) -> None:
    with pytest.raises(MlflowException, match="must be a whole number from 1 to 8"):
        repeat({"n": n})
