"""Plain rounding onto coded scales, for tests of how such weights are stored and computed with."""

import numpy as np
import torch
from numpy.typing import NDArray

from slmflow.conversion.quantization.blockwise import CodedScales, QuantizedWeight, pack
from slmflow.conversion.quantization.schemes import ScaleType, Scheme


def quantize(
    weight: NDArray[np.float32], *, bits: int, block_size: int, symmetric: bool
) -> QuantizedWeight:
    """Round a weight float32 [N, K] to the nearest multiple of its block's coded scale."""
    rows, columns = weight.shape
    padded = np.pad(weight, ((0, 0), (0, -columns % block_size)))
    blocks = padded.reshape(rows, -1, block_size)
    steps = 2**bits - 1
    if symmetric:
        exact = np.abs(blocks).max(2) / (steps // 2)
    else:
        lowest = np.minimum(blocks.min(2), 0)
        exact = (np.maximum(blocks.max(2), 0) - lowest) / steps
    row_scales = exact.max(1, keepdims=True).astype(np.float32) / 127
    row_scales[row_scales == 0] = 1  # a row of zeros, such as that of a padding token
    coded = CodedScales(np.rint(exact / row_scales).clip(1).astype(np.int8), row_scales)
    scales = coded.values()
    if symmetric:
        zero_points = np.full_like(scales, 2 ** (bits - 1))
    else:
        zero_points = np.rint(-lowest / scales).clip(0, steps)
    values = np.rint(blocks / scales[..., None] + zero_points[..., None]).clip(0, steps)
    return QuantizedWeight(
        bits,
        columns,
        pack(values.astype(np.uint8), bits),
        scales,
        None if symmetric else pack(zero_points.astype(np.uint8), bits),
        coded,
    )


def quantize_as(scheme: Scheme, weight: torch.Tensor) -> QuantizedWeight:
    """Quantize a weight float32 [N, K] onto coded scales, as a scheme with these describes it."""
    assert scheme.scale_type is ScaleType.int8
    return quantize(
        weight.numpy(),
        bits=scheme.bits,
        block_size=scheme.block_size,
        symmetric=scheme.symmetric,
    )
