"""Division of a budget among weights, against every possible division."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from slmflow.config.schema.target import BLOCK_SIZES, Algorithm
from slmflow.conversion.calibration import allocation, scale_search
from slmflow.conversion.calibration.allocation import Option
from slmflow.conversion.passes.graph import WeightSource
from slmflow.conversion.quantization.schemes import ScaleType, Scheme

SCHEME = Scheme(WeightSource("weight"), 4, 128, True, Algorithm.gptq, 4, ScaleType.int8)


def _option(size: int, divergence: float) -> Option:
    return Option(SCHEME, size, divergence)


def _random_choices(seed: int) -> dict[str, list[Option]]:
    """Return a few weights with a few options each: larger ones mostly cost less."""
    generator = np.random.default_rng(seed)
    choices = {}
    for number in range(int(generator.integers(2, 6))):
        count = int(generator.integers(1, 5))
        sizes = generator.choice(np.arange(5, 60), count, replace=False)
        scale = generator.gamma(1, 1)
        divergences = scale * generator.uniform(0.2, 1, count) * 30 / sizes
        choices[f"w{number}"] = [
            _option(int(size), float(divergence))
            for size, divergence in zip(sizes, divergences, strict=True)
        ]
    return choices


def _total(chosen: Mapping[str, Option]) -> tuple[int, float]:
    return (
        sum(option.size for option in chosen.values()),
        sum(option.divergence for option in chosen.values()),
    )


def _best(choices: Mapping[str, Sequence[Option]], budget: int) -> float | None:
    """Return the least divergence of all divisions that fit, None if none does."""
    divisions = (
        _total(dict(zip(choices, options, strict=True)))
        for options in itertools.product(*choices.values())
    )
    return min((divergence for size, divergence in divisions if size <= budget), default=None)


@pytest.mark.parametrize("seed", range(60))
def test_division_is_within_a_step_of_the_best(seed: int) -> None:
    """Greed loses at most what the first step that did not fit would have gained."""
    choices = _random_choices(seed)
    smallest = {name: min(options, key=lambda o: o.size) for name, options in choices.items()}
    largest_gain = max(
        max(o.divergence for o in options) - min(o.divergence for o in options)
        for options in choices.values()
    )
    start = _total(smallest)[0]

    for budget in range(start, start + 120, 3):
        size, divergence = _total(allocation.allocate(choices, budget))
        best = _best(choices, budget)

        assert size <= budget
        assert best is not None
        assert best - 1e-9 <= divergence <= best + largest_gain + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_division_is_best_where_steps_fill_the_budget(seed: int) -> None:
    choices = _random_choices(seed)
    start = _total({n: min(o, key=lambda each: each.size) for n, o in choices.items()})[0]
    reached = {_total(allocation.allocate(choices, start + extra)) for extra in range(250)}

    exact = [
        (size, divergence) for size, divergence in reached if _best(choices, size) == divergence
    ]

    # The hull's corners are among the budgets.
    assert (start, max(divergence for _, divergence in reached)) in exact or len(reached) == 1
    assert min(reached, key=lambda each: each[1]) in exact
    assert len(exact) >= len(reached) / 2


def test_more_bytes_never_cost_more() -> None:
    choices = _random_choices(5)
    costs = [_total(allocation.allocate(choices, budget))[1] for budget in range(0, 400)]

    assert costs[-1] == sum(min(o.divergence for o in options) for options in choices.values())
    assert max(costs) == costs[0]


@pytest.mark.parametrize("budget", [-100, 0, 10])
def test_a_small_budget_gets_the_smallest_options(budget: int) -> None:
    choices = {"a": [_option(9, 1.0), _option(4, 2.0)], "b": [_option(8, 3.0), _option(7, 5.0)]}

    chosen = allocation.allocate(choices, budget)

    assert {name: option.size for name, option in chosen.items()} == {"a": 4, "b": 7}


def test_a_large_budget_gets_the_most_exact_options() -> None:
    choices = {"a": [_option(9, 1.0), _option(4, 2.0)], "b": [_option(8, 3.0), _option(9, 3.0)]}

    chosen = allocation.allocate(choices, 10**9)

    assert chosen["a"].size == 9
    assert chosen["b"].size == 8  # no more bytes than gain something


def test_the_most_sensitive_weight_gets_the_bytes() -> None:
    choices = {
        "first": [_option(10, 0.3), _option(20, 0.1)],
        "second": [_option(10, 0.5), _option(20, 0.1)],
        "fixed": [_option(50, 9.0)],
    }

    chosen = allocation.allocate(choices, 80)

    assert {name: option.size for name, option in chosen.items()} == {
        "first": 10,
        "second": 20,
        "fixed": 50,
    }


def test_options_are_at_least_as_exact_as_the_scheme() -> None:
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((64, 512), dtype=np.float32)
    errors = allocation.block_errors(weight, np.ones(512, dtype=np.float32))

    options = allocation.options(SCHEME, (64, 512), 0.5, errors, 32, is_gathered=False)

    assert {(o.scheme.bits, o.scheme.block_size) for o in options} == {
        *((4, size) for size in (128, 64, 32)),
        *((8, size) for size in (128, 64, 32)),
    }
    own = next(o for o in options if o.scheme == SCHEME)
    assert own.divergence == 0.5
    assert all(o.divergence <= 0.5 and o.size >= own.size for o in options)
    for option in options:
        assert option.scheme == dataclasses.replace(
            SCHEME, bits=option.scheme.bits, block_size=option.scheme.block_size
        )
        assert option.size == allocation.stored_bytes((64, 512), option.scheme)


def test_embeddings_get_blocks_that_can_be_gathered() -> None:
    scheme = dataclasses.replace(SCHEME, block_size=64)
    errors = dict.fromkeys(BLOCK_SIZES, 1.0)

    gathered = allocation.options(scheme, (10, 192), 0.5, errors, 16, is_gathered=True)
    padded = allocation.options(scheme, (10, 96), 0.5, errors, 16, is_gathered=True)

    assert {o.scheme.block_size for o in gathered} == {64, 32, 16}
    assert {o.scheme.block_size for o in padded} == {32, 16}


def test_a_weight_of_zeros_has_options() -> None:
    errors = allocation.block_errors(np.zeros((4, 128), np.float32), np.ones(128, np.float32))

    options = allocation.options(SCHEME, (4, 128), 0.0, errors, 32, is_gathered=False)

    assert {option.divergence for option in options} == {0.0}
    assert allocation.allocate({"w": options}, 10**6)["w"].scheme == SCHEME


@pytest.mark.parametrize("columns", [512, 200])
def test_expected_errors_follow_the_true_ones(columns: int) -> None:
    """Relative to each other, as block sizes and bits are compared."""
    generator = np.random.default_rng(0)
    weight = generator.standard_t(6, (200, columns)).astype(np.float32)
    importance = generator.gamma(1, 1, columns).astype(np.float32)
    scheme = dataclasses.replace(SCHEME, scale_type=ScaleType.float32)
    errors = allocation.block_errors(weight, importance)

    options = allocation.options(scheme, weight.shape, 1.0, errors, 32, is_gathered=False)

    own = _true_error(weight, importance, scheme)
    for option in options:
        share = _true_error(weight, importance, option.scheme) / own
        assert option.divergence == pytest.approx(share, rel=0.7)


def _true_error(
    weight: NDArray[np.float32], importance: NDArray[np.float32], scheme: Scheme
) -> float:
    rounded = scale_search.round_to_nearest(weight, importance, scheme)
    return float((np.square(rounded - weight) * importance).sum())
