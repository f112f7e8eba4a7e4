"""One weight, quantized block by block with ONNX Runtime's own quantizers, and back to numbers.

The rows of a weight [N, K] are cut into blocks of `block_size` columns, each with a scale and a
zero point; a last block that is not full is padded. `quantize` gives the bytes that ONNX Runtime's
`MatMulNBitsQuantizer` writes for the same weight in a whole model, `dequantize` the values that
its MatMulNBits computes with.
"""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from slmflow.config.schema.target import Algorithm
from slmflow.console.messages import logging_untouched

T = TypeVar("T")
Float32 = NDArray[np.float32]

# Weights at a time: few enough that copies are small, and that numpy's work stays in the cache.
_SLAB = 1 << 22
_CACHED_SLAB = 1 << 18


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight [N, K] as the inputs of MatMulNBits; blocks is K / block_size, rounded up.

    bits: 4 or 8; columns: K; packed: uint8 [N, blocks, block_size * bits / 8], the first of two
    4-bit values in the low half of a byte; scales: float32 [N, blocks]; zero_points: None where
    symmetric (then 8 at 4 bits, 128 at 8), else uint8 [N, blocks * bits / 8, rounded up], packed
    alike, or float32 [N, blocks] from hqq.
    """

    bits: int
    columns: int
    packed: NDArray[np.uint8]
    scales: Float32
    zero_points: NDArray[np.uint8] | Float32 | None

    @property
    def block_size(self) -> int:
        """Return how many weights share a scale."""
        return int(self.packed.shape[2]) * 8 // self.bits


def quantizable(shape: Sequence[int]) -> bool:
    """Return whether a weight of this shape can be quantized: two dimensions, and not empty."""
    return len(shape) == 2 and 0 not in shape


def gatherable(columns: int, block_size: int, algorithm: Algorithm) -> bool:
    """Return whether GatherBlockQuantized can read rows of K `columns` from what is packed here.

    It takes no float zero points, and returns a last block's padding with the row.
    """
    return algorithm is not Algorithm.hqq and columns % block_size == 0


def matches(patterns: Iterable[str], module: str) -> bool:
    """Return whether a module's name, such as `model.layers.0.mlp.down_proj`, fits a pattern."""
    return any(fnmatchcase(module, pattern) for pattern in patterns)


def unmatched(patterns: Iterable[str], modules: Iterable[str]) -> list[str]:
    """Return the patterns that fit no module."""
    names = list(modules)
    return [pattern for pattern in patterns if not any(matches([pattern], n) for n in names)]


def quantize(
    weight: Float32, *, bits: int, block_size: int, symmetric: bool, algorithm: Algorithm
) -> QuantizedWeight:
    """Quantize a weight [N, K], as a torch Linear or Embedding holds it.

    rtn rounds to nearest. k_quant searches scale and zero point of each block for the least
    weighted error, as llama.cpp's ggml-quants.c does. hqq is Half-Quadratic Quantization (Badri
    and Shaji 2023, https://mobiusml.github.io/hqq_blog/), which keeps zero points in float32.
    The bytes depend neither on the number of threads nor on the machine having a GPU.
    Raises ValueError for a shape that is not `quantizable`, and where onnxruntime has no such
    quantizer, which `Quantization.problems` explains to the user.
    """
    if not quantizable(weight.shape):
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


def dequantize(quantized: QuantizedWeight) -> Float32:
    """Return the values that MatMulNBits computes with at accuracy_level 0: float32 [N, K]."""
    rows, blocks, _ = quantized.packed.shape
    values = np.empty((rows, blocks, quantized.block_size), dtype=np.float32)
    scales, zero_points = quantized.scales[..., None], _zero_points(quantized)

    def fill(slab: slice) -> None:
        part = values[slab]
        _unpack(quantized.packed[slab], quantized.bits, out=part)
        if _has_float_zero_points(quantized):
            # The kernel's own order of rounding: q * scale + (-scale * zero point).
            part *= scales[slab]
            part -= scales[slab] * zero_points[slab]
        else:
            part -= zero_points[slab]
            part *= scales[slab]

    _in_threads(fill, (rows, blocks * quantized.block_size))
    return np.ascontiguousarray(values.reshape(rows, -1)[:, : quantized.columns])


def _rtn(weight: Float32, bits: int, block_size: int, symmetric: bool) -> tuple[Any, Any, Any]:
    with logging_untouched():
        from onnxruntime.quantization import matmul_nbits_quantizer as library
    quantizer = library.DefaultWeightOnlyQuantizer(
        library.DefaultWeightOnlyQuantConfig(
            block_size=block_size, is_symmetric=symmetric, bits=bits
        )
    )
    parts = [
        quantizer.qbits_block_quant(_tensor(weight[slab]).T.contiguous().numpy())
        for slab in _slabs(weight.shape, _SLAB)
    ]
    return _joined(parts)


def _k_quant(weight: Float32, bits: int, block_size: int) -> tuple[Any, Any, Any]:
    def work(slab: slice) -> tuple[Any, Any, Any]:
        return _k_quant_slab(weight[slab], bits, block_size)

    if weight.shape[1] <= block_size:  # see _ordered: a slab of a single row has no such order
        return work(slice(None))
    return _joined(_in_threads(work, weight.shape))


def _k_quant_slab(weight: Float32, bits: int, block_size: int) -> tuple[Any, Any, Any]:
    # The quantizer's CPU half: the other takes the GPU where there is one, and rounds differently.
    from onnxruntime.quantization.neural_compressor.weight_only import quant_tensor_k_quant_cpu

    padded = np.pad(weight, ((0, 0), (0, -weight.shape[1] % block_size)))
    # A block whose weights are all equal divides by zero, and then keeps its first scale.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        values, scales, zero_points = quant_tensor_k_quant_cpu(
            _ordered(padded, block_size), bits, block_size
        )
        values = values.astype(np.uint8)
    blocks = (weight.shape[0], -1)
    return (
        _pack(values.reshape(*blocks, block_size), bits),
        scales.reshape(blocks).astype(np.float32),
        _pack(zero_points.reshape(blocks), bits),
    )


def _hqq(weight: Float32, bits: int, block_size: int) -> tuple[Any, Any, Any]:
    with logging_untouched():
        from onnxruntime.quantization import matmul_nbits_quantizer as library
    quantizer = library.HQQWeightOnlyQuantizer(
        library.HQQWeightOnlyQuantConfig(block_size=block_size, bits=bits)
    )
    # It stops when the error over the whole weight stops falling, so there are no slabs here.
    with _one_torch_thread():
        values, scales, zero_points = quantizer.quantize_internal(
            _tensor(_ordered(weight, block_size)), bits=bits, group_size=block_size
        )
    blocks = values.numpy().astype(np.uint8).reshape(*scales.shape, block_size)
    return _pack(blocks, bits), _contiguous(scales), _contiguous(zero_points)


def _ordered(weight: Float32, block_size: int) -> Float32:
    """Return the weight in the memory order the quantizers get from a whole model.

    They see the transpose of an ONNX weight [K, N]. Only where a row is one block do they not copy
    it first, and their sums over it then round differently.
    """
    return np.asfortranarray(weight) if weight.shape[1] <= block_size else weight


def _pack(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Pack along the last axis; an odd last 4-bit value gets an 8 beside it."""
    if bits == 8:
        return values
    even, odd = values[..., ::2], values[..., 1::2]
    packed = even | np.uint8(8 << 4)
    packed[..., : odd.shape[-1]] = even[..., : odd.shape[-1]] | odd << 4
    return packed


def _unpack(packed: NDArray[np.uint8], bits: int, out: Float32) -> None:
    """Write the values of `packed` to `out`, whose last axis is as long as there are values."""
    if bits == 8:
        out[...] = packed
    else:
        out[..., ::2] = packed & 15
        out[..., 1::2] = packed >> 4


def _has_float_zero_points(quantized: QuantizedWeight) -> bool:
    return quantized.zero_points is not None and quantized.zero_points.dtype != np.uint8


def _zero_points(quantized: QuantizedWeight) -> Float32:
    """Return one zero point for each block: float32 [N, blocks, 1]."""
    rows, blocks, _ = quantized.packed.shape
    zero_points = quantized.zero_points
    if zero_points is None:
        return np.full((rows, blocks, 1), 1 << (quantized.bits - 1), dtype=np.float32)
    if _has_float_zero_points(quantized):
        return zero_points.reshape(rows, blocks, 1).astype(np.float32)
    unpacked = np.empty((rows, zero_points.shape[1] * 8 // quantized.bits), dtype=np.float32)
    _unpack(np.asarray(zero_points, dtype=np.uint8), quantized.bits, out=unpacked)
    return unpacked[:, :blocks, None]


def _slabs(shape: Sequence[int], weights: int) -> Iterator[slice]:
    """Yield consecutive slices of rows, of about so many weights each."""
    step = max(1, weights // shape[1])
    for start in range(0, shape[0], step):
        yield slice(start, start + step)


def _in_threads(work: Callable[[slice], T], shape: Sequence[int]) -> list[T]:
    """Return what `work` makes of each slab of rows, in order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, _slabs(shape, _CACHED_SLAB)))


def _joined(parts: Sequence[tuple[Any, Any, Any]]) -> tuple[Any, Any, Any]:
    packed, scales, zero_points = (np.concatenate(part) for part in zip(*parts, strict=True))
    return packed, scales, zero_points


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    """Return a tensor over the same memory, which nothing here writes to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def _contiguous(tensor: torch.Tensor) -> Any:
    return tensor.contiguous().numpy()


@contextlib.contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Let torch add up in one order, whatever the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
