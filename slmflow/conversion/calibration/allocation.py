"""Mixed precision: which weights get more bits or smaller blocks, within a budget of bytes."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slmflow.config.schema.target import BLOCK_SIZES
from slmflow.conversion.quantization.blockwise import Float32, is_gatherable, map_slabs
from slmflow.conversion.quantization.schemes import ScaleType, Scheme

# Smaller blocks of 8 bits would be slower, and no more exact than what multiplies with them.
_SMALLEST_EIGHT_BIT = 32

_SCALE_BITS = {ScaleType.int8: 8, ScaleType.float16: 16, ScaleType.float32: 32}


@dataclass(frozen=True)
class Option:
    """One way to store a weight: its scheme, its bytes and the KL divergence it costs, in nats."""

    scheme: Scheme
    size: int
    divergence: float


def stored_bytes(shape: Sequence[int], scheme: Scheme) -> int:
    """Return the bytes of a weight [N, K] with its scales and zero points."""
    rows, columns = shape
    blocks = -(-columns // scheme.block_size)
    values = blocks * scheme.block_size * scheme.bits // 8
    scales = blocks * _SCALE_BITS[scheme.scale_type] // 8
    row_scales = 4 if scheme.scale_type is ScaleType.int8 else 0
    zero_points = 0 if scheme.symmetric else -(-blocks * scheme.bits // 8)
    return rows * (values + scales + row_scales + zero_points)


def block_errors(
    weight: Float32,
    importance: Float32,
    block_sizes: Sequence[int] = BLOCK_SIZES,
    factors: Float32 | None = None,
) -> dict[int, float]:
    """Return the expected squared error of rounding by block size, in a common unit.

    weight: float32 [N, K], whose columns are multiplied by factors [K]; importance: float32 [K].
    A block's steps are as wide as its largest weight requires.
    """
    size = min(block_sizes)
    maxima = _block_maxima(weight, size, factors)
    columns = np.pad(importance, (0, -len(importance) % size)).reshape(-1, size).sum(1)
    errors = {}
    for block_size in sorted(block_sizes):
        while size < block_size:
            maxima, columns = _pairs(maxima).max(-1), _pairs(columns).sum(-1)
            size *= 2
        errors[block_size] = float((np.square(maxima) @ columns).mean())
    return errors


def _block_maxima(weight: Float32, block_size: int, factors: Float32 | None) -> Float32:
    """Return the largest absolute value of each block: float32 [N, blocks]."""
    padding = -weight.shape[1] % block_size

    def maxima(slab: slice) -> Float32:
        values = np.abs(weight[slab]) if factors is None else np.abs(weight[slab] * factors)
        if padding:
            values = np.pad(values, ((0, 0), (0, padding)))
        largest: Float32 = values.reshape(len(values), -1, block_size).max(-1)
        return largest

    return np.concatenate(map_slabs(maxima, weight.shape))


def _pairs(blocks: Float32) -> Float32:
    """Return neighbors along the last axis in pairs: [..., blocks / 2, 2], padded with zero."""
    if blocks.shape[-1] % 2:
        blocks = np.pad(blocks, [(0, 0)] * (blocks.ndim - 1) + [(0, 1)])
    return blocks.reshape(*blocks.shape[:-1], -1, 2)


def options(
    scheme: Scheme,
    shape: Sequence[int],
    divergence: float,
    errors: Mapping[int, float],
    smallest_block: int,
    *,
    is_gathered: bool,
) -> list[Option]:
    """Return the ways to store a weight [N, K], at least as exact as its scheme.

    divergence: KL divergence in nats of the scheme; errors: see `block_errors`; smallest_block: of
    the options with the scheme's bits; is_gathered: whether rows are read from it as from an
    embedding.
    """
    return [
        Option(other, stored_bytes(shape, other), divergence * _share(scheme, other, errors))
        for other in _schemes(scheme, smallest_block)
        if not is_gathered or is_gatherable(shape[1], other.block_size, other.algorithm)
    ]


def _schemes(scheme: Scheme, smallest_block: int) -> Iterator[Scheme]:
    yield scheme
    for size in (size for size in BLOCK_SIZES if size < scheme.block_size):
        if size >= smallest_block:
            yield dataclasses.replace(scheme, block_size=size)
    for size in (size for size in BLOCK_SIZES if size <= scheme.block_size):
        if size >= min(scheme.block_size, _SMALLEST_EIGHT_BIT):
            yield dataclasses.replace(scheme, bits=8, block_size=size)


def _share(scheme: Scheme, other: Scheme, errors: Mapping[int, float]) -> float:
    """Return the error of another scheme as a share of this one's."""
    steps = 4.0 ** (scheme.bits - other.bits)
    error = errors[scheme.block_size]
    return steps * (errors[other.block_size] / error if error else 1.0)


def allocate(choices: Mapping[str, Sequence[Option]], budget: int) -> dict[str, Option]:
    """Return the options of least total divergence whose bytes fit the budget, as near as greed.

    Every weight starts at its smallest option, even beyond the budget. Then the step that gains
    most for its bytes is taken, again and again, among those that fit.
    """
    hulls = {name: _hull(options) for name, options in choices.items()}
    chosen = {name: hull[0] for name, hull in hulls.items()}
    free = budget - sum(option.size for option in chosen.values())
    steps = sorted(
        (_slope(before, after), name, number)
        for name, hull in hulls.items()
        for number, (before, after) in enumerate(itertools.pairwise(hull), 1)
    )
    for _, name, number in steps:
        after = hulls[name][number]
        if after.size - chosen[name].size <= free:
            free -= after.size - chosen[name].size
            chosen[name] = after
    return chosen


def _hull(options: Sequence[Option]) -> list[Option]:
    """Return the options on the lower convex hull of divergence over size, smallest first."""
    hull: list[Option] = []
    for option in sorted(options, key=lambda each: (each.size, each.divergence)):
        if hull and option.divergence >= hull[-1].divergence:
            continue
        while len(hull) > 1 and _slope(hull[-1], option) <= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(option)
    return hull


def _slope(before: Option, after: Option) -> float:
    """Return the change of divergence for each byte of a step to a larger option."""
    return (after.divergence - before.divergence) / (after.size - before.size)
