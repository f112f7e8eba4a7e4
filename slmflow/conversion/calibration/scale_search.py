"""Scales and zero points of quantized blocks, searched for the least weighted rounding error."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slmflow.conversion.quantization.blockwise import CodedScales, Float32, map_slabs
from slmflow.conversion.quantization.schemes import ScaleType, Scheme

# Largest code of a scale, see `CodedScales`.
_LARGEST_CODE = 127

# Smallest scale, for blocks of zeros; float16 has it too.
_SMALLEST = np.float32(1e-7)

# Ranges tried, as shares of the full range of a block: the narrower ones clip its outliers. With
# 8 bits clipping costs more than the finer steps gain.
_SHARES = {4: (1.0, 0.93, 0.86, 0.79, 0.72, 0.64), 8: (1.0, 0.97)}


@dataclass(frozen=True)
class Grid:
    """The values that the blocks of a weight [N, K] can take: (q - zero point) * scale.

    scales: float32 [N, blocks], as the graph computes them; coded: their form on disk, if it is
    not float; zero_points: float32 [N, blocks], whole numbers.
    """

    scales: Float32
    coded: CodedScales | None
    zero_points: Float32


def search(weight: Float32, importance: Float32, scheme: Scheme) -> Grid:
    """Return the grid of a weight float32 [N, K] with the least error of plain rounding.

    importance: float32 [K], the weight of each column's squared error, such as the mean square of
    its input.
    """
    block_size = scheme.block_size
    padding = -weight.shape[1] % block_size
    columns = np.pad(importance, (0, padding)).reshape(-1, block_size)

    def search_slab(slab: slice) -> Grid:
        blocks = np.pad(weight[slab], ((0, 0), (0, padding))).reshape(-1, *columns.shape)
        best = _Best(blocks, columns, scheme.bits)
        for scales, zero_points in _candidates(blocks, scheme.bits, scheme.symmetric):
            best.offer(scales, zero_points)
        return _round_scales(best, scheme.scale_type)

    return _concatenate(map_slabs(search_slab, weight.shape))


def round_to_nearest(weight: Float32, importance: Float32, scheme: Scheme) -> Float32:
    """Return a weight float32 [N, K] as plain rounding on the best grid leaves it."""
    grid = search(weight, importance, scheme)
    rows, columns = weight.shape
    padded = np.pad(weight, ((0, 0), (0, -columns % scheme.block_size)))
    blocks = padded.reshape(rows, -1, scheme.block_size)
    scales, zero_points = grid.scales[..., None], grid.zero_points[..., None]
    quantize(blocks, scales, zero_points, scheme.bits, out=blocks)
    blocks -= zero_points
    blocks *= scales
    return np.ascontiguousarray(blocks.reshape(rows, -1)[:, :columns])


def quantize(
    blocks: Float32, scales: Float32, zero_points: Float32, bits: int, out: Float32 | None = None
) -> Float32:
    """Return the nearest values q, whole numbers of 0 to 2**bits - 1; all arrays broadcast."""
    values: Float32 = np.divide(blocks, scales, out=out)
    np.rint(values, out=values)
    values += zero_points
    return np.clip(values, 0, 2**bits - 1, out=values)


class _Best:
    """The best scale and zero point so far of each block: blocks float32 [N, blocks, size]."""

    def __init__(self, blocks: Float32, columns: Float32, bits: int) -> None:
        self.blocks = blocks
        self.bits = bits
        self._columns = columns
        self._scratch = np.empty_like(blocks)
        self.errors = np.full(blocks.shape[:2], np.inf, dtype=np.float32)
        self.scales = np.full(blocks.shape[:2], np.nan, dtype=np.float32)
        self.zero_points = np.full(blocks.shape[:2], 1 << (bits - 1), dtype=np.float32)

    def offer(self, scales: Float32, zero_points: Float32) -> None:
        """Keep the scales and zero points [N, blocks] of all blocks where they are better.

        The first offer is kept even where its error is too large for a float32.
        """
        scales = np.where(np.abs(scales) < _SMALLEST, _SMALLEST, scales)
        error = self.error(scales, zero_points)
        better = (error < self.errors) | np.isnan(self.scales)
        self.errors[better] = error[better]
        self.scales[better] = scales[better]
        self.zero_points[better] = zero_points[better]

    def error(self, scales: Float32, zero_points: Float32) -> Float32:
        """Return the weighted squared error of each block."""
        difference = quantize(
            self.blocks, scales[..., None], zero_points[..., None], self.bits, self._scratch
        )
        difference -= zero_points[..., None]
        difference *= scales[..., None]
        difference -= self.blocks
        difference *= difference
        error: Float32 = np.einsum("nbk,bk->nb", difference, self._columns)
        return error


def _candidates(blocks: Float32, bits: int, symmetric: bool) -> Iterator[tuple[Any, Any]]:
    highest, lowest = blocks.max(-1), blocks.min(-1)
    if symmetric:
        middle = np.full_like(highest, 1 << (bits - 1))
        # The lowest value is one step farther from zero than the highest.
        extreme = np.where(-lowest > highest, lowest, highest)
        for share in _SHARES[bits]:
            scales = extreme * np.float32(-share) / middle
            yield scales, middle
            yield -scales * (middle / (middle - 1)), middle
        return
    highest, lowest = np.maximum(highest, 0), np.minimum(lowest, 0)
    steps = np.float32(2**bits - 1)
    for share in _SHARES[bits]:
        scales = (highest - lowest) * (np.float32(share) / steps)
        zero_points = -lowest * np.float32(share) / np.maximum(scales, _SMALLEST)
        yield scales, np.clip(np.floor(zero_points), 0, steps)
        yield scales, np.clip(np.ceil(zero_points), 0, steps)


def _round_scales(best: _Best, scale_type: ScaleType) -> Grid:
    """Return the best grid with scales of the type, for int8 the better of two codes each."""
    if scale_type is not ScaleType.int8:
        dtype = np.float16 if scale_type is ScaleType.float16 else np.float32
        scales = best.scales.astype(dtype).astype(np.float32)
        return Grid(scales, None, best.zero_points)
    rows = np.abs(best.scales).max(1, keepdims=True) / np.float32(_LARGEST_CODE)
    exact = best.scales / rows
    codes = _nonzero(np.trunc(exact))
    wider = _nonzero(np.clip(np.trunc(exact) + np.sign(exact), -_LARGEST_CODE, _LARGEST_CODE))
    is_wider = best.error(wider * rows, best.zero_points) < best.error(
        codes * rows, best.zero_points
    )
    coded = CodedScales(np.where(is_wider, wider, codes).astype(np.int8), rows)
    return Grid(coded.values(), coded, best.zero_points)


def _nonzero(codes: Float32) -> Float32:
    return np.where(codes == 0, np.float32(1), codes)


def _concatenate(grids: Sequence[Grid]) -> Grid:
    """Return the grid of a weight from those of its rows."""
    coded = [grid.coded for grid in grids if grid.coded is not None]
    return Grid(
        np.concatenate([grid.scales for grid in grids]),
        CodedScales(
            np.concatenate([scales.codes for scales in coded]),
            np.concatenate([scales.rows for scales in coded]),
        )
        if coded
        else None,
        np.concatenate([grid.zero_points for grid in grids]),
    )
