"""Quantization of one weight by ONNX Runtime's own quantizers: rtn, k_quant and hqq.

The bytes are those that ONNX Runtime's `MatMulNBitsQuantizer` writes for the same weight as part of
a whole model. They depend neither on the number of threads nor on whether the machine has a GPU.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slmflow.config.schema.target import Algorithm
from slmflow.console.library_output import preserve_logging
from slmflow.conversion.quantization.blockwise import (
    Float32,
    QuantizedWeight,
    is_quantizable,
    map_slabs,
    pack,
    slabs,
)

# Packed values, scales and zero points, as `QuantizedWeight` has them.
Parts = tuple[Any, Any, Any]

# Weights per slab of `rtn`: few enough that the transposed copies are small.
_SLAB = 1 << 22


def quantize(
    weight: Float32, *, bits: int, block_size: int, symmetric: bool, algorithm: Algorithm
) -> QuantizedWeight:
    """Quantize a weight float32 [N, K], laid out as in a torch Linear or Embedding.

    Raises ValueError for a shape that cannot be quantized, and for a combination that onnxruntime
    does not support, which `Quantization.problems` explains to the user; and for gptq, which needs
    the inputs of the weight and not the weight alone.
    """
    if algorithm is Algorithm.gptq:
        raise ValueError("gptq is computed by calibration, not from a weight alone")
    if not is_quantizable(weight.shape):
        raise ValueError(f"a weight of shape {weight.shape} cannot be quantized")
    if algorithm is not Algorithm.rtn and symmetric:
        raise ValueError(f"{algorithm.value} has no symmetric form")
    if algorithm is Algorithm.hqq and bits != 4:
        raise ValueError(f"hqq at {bits} bits: MatMulNBits takes float zero points at 4 bits only")
    match algorithm:
        case Algorithm.rtn:
            packed, scales, zero_points = _rtn(weight, bits, block_size, symmetric)
        case Algorithm.k_quant:
            packed, scales, zero_points = _k_quant(weight, bits, block_size)
        case Algorithm.hqq:
            packed, scales, zero_points = _hqq(weight, bits, block_size)
    return QuantizedWeight(
        bits, weight.shape[1], packed, scales, None if symmetric else zero_points
    )


def _rtn(weight: Float32, bits: int, block_size: int, symmetric: bool) -> Parts:
    """Round to nearest, the scale of a block set by its smallest and largest weight.

    Source: onnxruntime, `DefaultWeightOnlyQuantizer` in quantization/matmul_nbits_quantizer.py.
    """
    with preserve_logging():
        from onnxruntime.quantization import matmul_nbits_quantizer as library
    quantizer = library.DefaultWeightOnlyQuantizer(
        library.DefaultWeightOnlyQuantConfig(
            block_size=block_size, is_symmetric=symmetric, bits=bits
        )
    )
    parts = [
        quantizer.qbits_block_quant(_as_tensor(weight[slab]).T.contiguous().numpy())
        for slab in slabs(weight.shape, _SLAB)
    ]
    return _concatenate(parts)


def _k_quant(weight: Float32, bits: int, block_size: int) -> Parts:
    """Search the scale and zero point of each block for the least weighted squared error.

    Source: the k-quants of llama.cpp (ggml/src/ggml-quants.c), as onnxruntime ports them in
    quantization/neural_compressor/weight_only.py.
    """

    def quantize_slab(slab: slice) -> Parts:
        return _k_quant_slab(weight[slab], bits, block_size)

    if weight.shape[1] <= block_size:  # see _in_quantizer_order: a slab of one row has no order
        return quantize_slab(slice(None))
    return _concatenate(map_slabs(quantize_slab, weight.shape))


def _k_quant_slab(weight: Float32, bits: int, block_size: int) -> Parts:
    # The CPU function by name: the library's own choice takes the GPU if there is one, and that
    # one rounds differently.
    from onnxruntime.quantization.neural_compressor.weight_only import quant_tensor_k_quant_cpu

    padded = np.pad(weight, ((0, 0), (0, -weight.shape[1] % block_size)))
    # A block of equal weights divides by zero and then keeps its first scale.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        values, scales, zero_points = quant_tensor_k_quant_cpu(
            _in_quantizer_order(padded, block_size), bits, block_size
        )
        values = values.astype(np.uint8)
    blocks = (weight.shape[0], -1)
    return (
        pack(values.reshape(*blocks, block_size), bits),
        scales.reshape(blocks).astype(np.float32),
        pack(zero_points.reshape(blocks), bits),
    )


def _hqq(weight: Float32, bits: int, block_size: int) -> Parts:
    """Optimize the zero points by Half-Quadratic Quantization; they stay float32.

    Source: Badri and Shaji 2023, https://mobiusml.github.io/hqq_blog/ (onnxruntime,
    `HQQWeightOnlyQuantizer` in quantization/matmul_nbits_quantizer.py).
    """
    with preserve_logging():
        from onnxruntime.quantization import matmul_nbits_quantizer as library
    quantizer = library.HQQWeightOnlyQuantizer(
        library.HQQWeightOnlyQuantConfig(block_size=block_size, bits=bits)
    )
    # No slabs: the search stops when the error over the whole weight stops falling.
    with _one_torch_thread():
        values, scales, zero_points = quantizer.quantize_internal(
            _as_tensor(_in_quantizer_order(weight, block_size)), bits=bits, group_size=block_size
        )
    blocks = values.numpy().astype(np.uint8).reshape(*scales.shape, block_size)
    return pack(blocks, bits), scales.contiguous().numpy(), zero_points.contiguous().numpy()


def _in_quantizer_order(weight: Float32, block_size: int) -> Float32:
    """Return the weight in the memory order that the quantizers get from a whole model.

    They get the transpose of an ONNX weight [K, N]. If a row is a single block they do not copy it
    first, and in that order the sums over it round differently.
    """
    return np.asfortranarray(weight) if weight.shape[1] <= block_size else weight


def _concatenate(parts: Sequence[Parts]) -> Parts:
    packed, scales, zero_points = (np.concatenate(part) for part in zip(*parts, strict=True))
    return packed, scales, zero_points


def _as_tensor(array: NDArray[Any]) -> torch.Tensor:
    """Return a tensor that shares the array's memory; nothing here writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


@contextlib.contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Make torch's sums independent of the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
