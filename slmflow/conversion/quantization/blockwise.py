"""Block-wise quantized weights: their layout, and the values they stand for.

Each row of a weight [N, K] is cut into blocks of `block_size` columns, and each block has a scale
and a zero point. The last block of a row is padded. The layout is that of ONNX Runtime's operators
`MatMulNBits` and `GatherBlockQuantized`.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from slmflow.config.schema.target import Algorithm

T = TypeVar("T")
Float32 = NDArray[np.float32]

# Weights per slab: small enough that numpy's intermediate results stay in the CPU cache.
CACHED_SLAB = 1 << 18


@dataclass(frozen=True)
class CodedScales:
    """Scales of a weight [N, K] in a quarter of the bytes: an int8 code each, times a row's scale.

    codes: int8 [N, blocks]; rows: float32 [N, 1].
    """

    codes: NDArray[np.int8]
    rows: Float32

    def values(self) -> Float32:
        """Return the scales as the graph computes them: float32 [N, blocks]."""
        return self.codes.astype(np.float32) * self.rows


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight [N, K] as inputs of MatMulNBits; blocks is K / block_size, rounded up.

    bits: 4 or 8; columns: K; packed: uint8 [N, blocks, block_size * bits / 8], the first of two
    4-bit values in the low half of a byte; scales: float32 [N, blocks]; zero_points: None if
    symmetric (then 8 at 4 bits, 128 at 8 bits), else uint8 [N, blocks * bits / 8, rounded up],
    packed in the same way, or float32 [N, blocks] from hqq; coded_scales: how `scales` are stored,
    None if as floats. Raises ValueError if `scales` are not the values of `coded_scales`.
    """

    bits: int
    columns: int
    packed: NDArray[np.uint8]
    scales: Float32
    zero_points: NDArray[np.uint8] | Float32 | None
    coded_scales: CodedScales | None = None

    def __post_init__(self) -> None:
        """Check that there is one truth about the scales."""
        coded = self.coded_scales
        if coded is not None and not np.array_equal(coded.values(), self.scales):
            raise ValueError("the scales of a quantized weight differ from its coded scales")

    @property
    def block_size(self) -> int:
        """Return the number of weights that share a scale."""
        return int(self.packed.shape[2]) * 8 // self.bits


def is_quantizable(shape: Sequence[int]) -> bool:
    """Return whether a weight of this shape can be quantized: two dimensions, not empty."""
    return len(shape) == 2 and 0 not in shape


def is_gatherable(columns: int, block_size: int, algorithm: Algorithm) -> bool:
    """Return whether GatherBlockQuantized can read rows of `columns` weights from this layout.

    It takes no float zero points, and returns the padding of a last block as part of the row.
    """
    return algorithm is not Algorithm.hqq and columns % block_size == 0


def dequantize(quantized: QuantizedWeight) -> Float32:
    """Return the values MatMulNBits computes with at accuracy_level 0: float32 [N, K]."""
    rows, blocks, _ = quantized.packed.shape
    values = np.empty((rows, blocks, quantized.block_size), dtype=np.float32)
    scales, zero_points = quantized.scales[..., None], _unpacked_zero_points(quantized)

    def fill(slab: slice) -> None:
        part = values[slab]
        _unpack(quantized.packed[slab], quantized.bits, out=part)
        if _has_float_zero_points(quantized):
            # Rounds in the kernel's order: q * scale + (-scale * zero point).
            part *= scales[slab]
            part -= scales[slab] * zero_points[slab]
        else:
            part -= zero_points[slab]
            part *= scales[slab]

    map_slabs(fill, (rows, blocks * quantized.block_size))
    return np.ascontiguousarray(values.reshape(rows, -1)[:, : quantized.columns])


def pack(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Pack along the last axis; an odd last 4-bit value is paired with an 8."""
    if bits == 8:
        return values
    even, odd = values[..., ::2], values[..., 1::2]
    packed = even | np.uint8(8 << 4)
    packed[..., : odd.shape[-1]] = even[..., : odd.shape[-1]] | odd << 4
    return packed


def _unpack(packed: NDArray[np.uint8], bits: int, out: Float32) -> None:
    """Write the unpacked values to `out`, whose last axis has one element per value."""
    if bits == 8:
        out[...] = packed
    else:
        out[..., ::2] = packed & 15
        out[..., 1::2] = packed >> 4


def _has_float_zero_points(quantized: QuantizedWeight) -> bool:
    return quantized.zero_points is not None and quantized.zero_points.dtype != np.uint8


def _unpacked_zero_points(quantized: QuantizedWeight) -> Float32:
    """Return one zero point per block: float32 [N, blocks, 1]."""
    rows, blocks, _ = quantized.packed.shape
    zero_points = quantized.zero_points
    if zero_points is None:
        return np.full((rows, blocks, 1), 1 << (quantized.bits - 1), dtype=np.float32)
    if _has_float_zero_points(quantized):
        return zero_points.reshape(rows, blocks, 1).astype(np.float32)
    unpacked = np.empty((rows, zero_points.shape[1] * 8 // quantized.bits), dtype=np.float32)
    _unpack(np.asarray(zero_points, dtype=np.uint8), quantized.bits, out=unpacked)
    return unpacked[:, :blocks, None]


def slabs(shape: Sequence[int], weights: int) -> Iterator[slice]:
    """Yield consecutive slices of the rows of `shape`, about `weights` weights each."""
    step = max(1, weights // shape[1])
    for start in range(0, shape[0], step):
        yield slice(start, start + step)


def map_slabs(function: Callable[[slice], T], shape: Sequence[int]) -> list[T]:
    """Apply a function to each slab of rows in a thread pool; return the results in order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, slabs(shape, CACHED_SLAB)))
