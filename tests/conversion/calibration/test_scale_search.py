"""Scales of quantized blocks: their error against plain rounding, and values at the extremes."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from slmflow.config.schema.target import Algorithm
from slmflow.conversion.calibration import scale_search
from slmflow.conversion.calibration.scale_search import Grid
from slmflow.conversion.passes.graph import WeightSource
from slmflow.conversion.quantization import blockwise
from slmflow.conversion.quantization.schemes import ScaleType, Scheme

Array = NDArray[np.float32]

SCHEMES = [
    Scheme(WeightSource("weight"), bits, 32, symmetric, Algorithm.gptq, 0, scale_type)
    for bits, symmetric, scale_type in itertools.product((4, 8), (True, False), ScaleType)
]


def _name(scheme: Scheme) -> str:
    zero_points = "symmetric" if scheme.symmetric else "asymmetric"
    return f"{scheme.bits}-{zero_points}-{scheme.scale_type.value}"


all_schemes = pytest.mark.parametrize("scheme", SCHEMES, ids=_name)


def _weight(rows: int = 24, columns: int = 150, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, columns), dtype=np.float32)


def _importance(columns: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).gamma(0.3, 1, columns).astype(np.float32)


def _check(grid: Grid, scheme: Scheme) -> None:
    """Check what every grid must have, whatever the weight."""
    assert np.isfinite(grid.scales).all()
    assert (grid.scales != 0).all()
    assert (grid.zero_points == np.rint(grid.zero_points)).all()
    assert (grid.zero_points >= 0).all() and (grid.zero_points < 2**scheme.bits).all()
    if scheme.symmetric:
        assert (grid.zero_points == 2 ** (scheme.bits - 1)).all()
    assert (grid.coded is not None) == (scheme.scale_type is ScaleType.int8)
    if grid.coded is not None:
        assert grid.coded.codes.dtype == np.int8
        assert (grid.coded.codes != 0).all() and (grid.coded.codes != -128).all()
        np.testing.assert_array_equal(grid.coded.values(), grid.scales)
    if scheme.scale_type is ScaleType.float16:
        np.testing.assert_array_equal(grid.scales.astype(np.float16), grid.scales)


def _plain(weight: Array, scheme: Scheme) -> Array:
    rtn = dataclasses.replace(scheme, algorithm=Algorithm.rtn)
    return blockwise.dequantize(rtn.quantize(torch.from_numpy(weight)))


def _error(weight: Array, rounded: Array, importance: Array) -> float:
    return float((np.square(weight - rounded, dtype=np.float64) * importance).sum())


@all_schemes
@pytest.mark.parametrize("columns", [150, 128, 7])
def test_error_is_below_plain_rounding(scheme: Scheme, columns: int) -> None:
    weight, importance = _weight(columns=columns), _importance(columns)

    rounded = scale_search.round_to_nearest(weight, importance, scheme)

    assert rounded.shape == weight.shape
    searched = _error(weight, rounded, importance)
    plain = _error(weight, _plain(weight, scheme), importance)
    # Coded scales of 8 bits are coarser than the steps that a search can gain.
    margin = 1.15 if (scheme.bits, scheme.scale_type) == (8, ScaleType.int8) else 1
    assert searched <= margin * plain
    if scheme.bits == 4:
        assert searched < 0.95 * plain
    _check(scale_search.search(weight, importance, scheme), scheme)


@all_schemes
def test_no_row_is_worse_than_plain_rounding(scheme: Scheme) -> None:
    """With scales that are not coded, which neighbors in a row do not share."""
    scheme = dataclasses.replace(scheme, scale_type=ScaleType.float32)
    weight, importance = _weight(rows=200, columns=32), _importance(32)

    rounded = scale_search.round_to_nearest(weight, importance, scheme)

    plain = _plain(weight, scheme)
    for exact, searched, other in zip(weight, rounded, plain, strict=True):
        assert _error(exact, searched, importance) <= 1.0001 * _error(exact, other, importance)


@all_schemes
def test_zeros_stay_zeros(scheme: Scheme) -> None:
    weight = _weight()
    weight[3] = 0
    weight[5, 32:64] = 0
    weight[:, 40] = 0

    rounded = scale_search.round_to_nearest(weight, _importance(150), scheme)

    assert not rounded[3].any()
    assert not rounded[5, 32:64].any()
    assert not rounded[:, 40].any()
    _check(scale_search.search(weight, _importance(150), scheme), scheme)
    _check(scale_search.search(np.zeros((2, 40), np.float32), _importance(40), scheme), scheme)


@all_schemes
def test_an_outlier_leaves_its_row_exact(scheme: Scheme) -> None:
    """Of float scales one block suffers, of coded scales all blocks of the row, but little."""
    weight, importance = _weight(), np.ones(150, dtype=np.float32)
    weight[4, 70] = 40
    ordinary = np.delete(np.arange(150), np.arange(64, 96))

    rounded = scale_search.round_to_nearest(weight, importance, scheme)

    assert rounded[4, 70] == pytest.approx(40, rel=0.13)
    error, plain = (
        _error(weight[4, ordinary], values[4, ordinary], importance[ordinary])
        for values in (rounded, _plain(weight, scheme))
    )
    assert error < (2 if scheme.scale_type is ScaleType.int8 else 1.01) * plain
    np.testing.assert_array_equal(
        np.delete(rounded, 4, 0),
        scale_search.round_to_nearest(np.delete(weight, 4, 0), importance, scheme),
    )


@all_schemes
@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("size", [1e-40, 1e-20, 1e-6, 1e5, 1e30])
def test_extreme_weights_are_rounded(scheme: Scheme, size: float) -> None:
    if scheme.scale_type is ScaleType.float16:
        size = min(size, 1e5)  # a graph in fp16 cannot have larger ones
    weight = _weight() * np.float32(size)

    grid = scale_search.search(weight, _importance(150), scheme)
    rounded = scale_search.round_to_nearest(weight, _importance(150), scheme)

    _check(grid, scheme)
    assert np.isfinite(rounded).all()
    largest = float(np.abs(weight).max())
    assert np.abs(rounded.astype(np.float64) - weight).max() <= 0.4 * largest + 1e-6


@all_schemes
def test_unimportant_columns_are_clipped_first(scheme: Scheme) -> None:
    weight, importance = _weight(columns=32), np.ones(32, dtype=np.float32)
    weight[:, 0] *= 3
    importance[0] = 1e-6

    weighted = scale_search.round_to_nearest(weight, importance, scheme)

    uniform = scale_search.round_to_nearest(weight, np.ones(32, dtype=np.float32), scheme)
    others = slice(1, None)
    error, plain = (
        _error(weight[:, others], rounded[:, others], importance[others])
        for rounded in (weighted, uniform)
    )
    assert error <= (0.9 if scheme.bits == 4 else 1) * plain


@all_schemes
def test_unused_inputs_do_not_matter(scheme: Scheme) -> None:
    """Not even if a whole block has no importance: it is rounded as if all were equal."""
    weight, importance = _weight(columns=64), np.zeros(64, dtype=np.float32)

    rounded = scale_search.round_to_nearest(weight, importance, scheme)

    plain = _error(weight, _plain(weight, scheme), np.ones(64, dtype=np.float32))
    assert _error(weight, rounded, np.ones(64, dtype=np.float32)) < 1.5 * plain


@all_schemes
def test_rounding_is_idempotent(scheme: Scheme) -> None:
    """A weight on the grid of plain float scales is left as it is."""
    scheme = dataclasses.replace(scheme, scale_type=ScaleType.float32)
    weight, importance = _weight(columns=96), np.ones(96, dtype=np.float32)
    grid = _plain(weight, scheme)

    rounded = scale_search.round_to_nearest(grid, importance, scheme)

    np.testing.assert_allclose(rounded, grid, rtol=1e-5, atol=1e-6)
