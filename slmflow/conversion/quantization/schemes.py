"""Choice of the weights to quantize, and the scheme of each."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

import onnx_ir as ir
import torch

from slmflow.config.schema.target import BLOCK_SIZES, Algorithm, Quantization
from slmflow.conversion.passes.graph import (
    WeightSource,
    embedding_weight,
    matmul_weight,
    module_path,
    value_name,
    weight_shape,
    weight_source,
)
from slmflow.conversion.quantization import algorithms
from slmflow.conversion.quantization.blockwise import (
    QuantizedWeight,
    is_gatherable,
    is_quantizable,
)
from slmflow.errors import UserError


class ScaleType(Enum):
    """How the scales of a weight are stored; int8: as `CodedScales`."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"


@dataclass(frozen=True)
class Scheme:
    """How one weight is quantized and stored; weights of one graph may differ in all of it."""

    source: WeightSource
    bits: int
    block_size: int
    symmetric: bool
    algorithm: Algorithm
    accuracy_level: int
    scale_type: ScaleType

    def quantize(self, weight: torch.Tensor) -> QuantizedWeight:
        """Quantize a weight float32 [N, K].

        Raises ValueError for gptq, which calibration computes, and as `algorithms.quantize` does.
        """
        return algorithms.quantize(
            weight.numpy(),
            bits=self.bits,
            block_size=self.block_size,
            symmetric=self.symmetric,
            algorithm=self.algorithm,
        )

    def check(self, quantized: QuantizedWeight) -> None:
        """Raise ValueError if bits, blocks or zero points of a quantized weight are others."""
        found = quantized.bits, quantized.block_size, quantized.zero_points is None
        if found != (self.bits, self.block_size, self.symmetric):
            raise ValueError(
                f"{self.source.name}: (bits, block_size, symmetric) of the quantized weight are "
                f"{found}, but of its scheme {(self.bits, self.block_size, self.symmetric)}"
            )


def choose(graph: ir.Graph, quantization: Quantization | None, *, fp16: bool) -> dict[str, Scheme]:
    """Return the schemes by weight name: all MatMul weights, and the embedding if so configured.

    fp16: whether the graph will compute in fp16, which decides how scales are stored. Raises
    UserError if `eight_bit` names a module that is not quantized, and if the embedding cannot be
    quantized although the target requires it.
    """
    if quantization is None:
        return {}
    multiplied = _readers_by_weight(graph, matmul_weight)
    embedded = _readers_by_weight(graph, embedding_weight)
    modules = {
        weight: [module_path(n) for n in (*multiplied.get(weight, ()), *embedded.get(weight, ()))]
        for weight in multiplied | embedded
    }
    quantized = {
        weight: paths
        for weight, paths in modules.items()
        if is_quantizable(weight_shape(weight))
        and (
            weight not in embedded
            or _quantizes_embedding(weight, weight in multiplied, quantization)
        )
    }
    _check_patterns(quantization.eight_bit, list(itertools.chain(*quantized.values())))
    chosen = {}
    for weight, paths in quantized.items():
        is_eight_bit = any(_matches(quantization.eight_bit, path) for path in paths)
        chosen[value_name(weight)] = Scheme(
            weight_source(weight),
            8 if is_eight_bit else quantization.bits,
            _block_size(weight, quantization),
            quantization.symmetric,
            quantization.algorithm,
            quantization.accuracy_level,
            scale_type(quantization.algorithm, fp16=fp16),
        )
    return chosen


def _block_size(weight: ir.Value, quantization: Quantization) -> int:
    """Return the block size of a weight: for gptq the largest that divides its rows, if any does.

    Padding would cost more than it saves.
    """
    largest, columns = quantization.block_size, weight_shape(weight)[1]
    if quantization.algorithm is Algorithm.gptq:
        while largest > BLOCK_SIZES[0] and columns % largest:
            largest //= 2
        return quantization.block_size if columns % largest else largest
    return largest


def scale_type(algorithm: Algorithm, *, fp16: bool) -> ScaleType:
    """Return how scales are stored: gptq chooses them as coded; others have the graph's type."""
    if fp16:
        return ScaleType.float16
    return ScaleType.int8 if algorithm is Algorithm.gptq else ScaleType.float32


def _readers_by_weight(
    graph: ir.Graph, weight_of: Callable[[ir.Node], ir.Value | None]
) -> dict[ir.Value, list[ir.Node]]:
    """Return the weights that `weight_of` finds, each with the nodes that read it."""
    readers: dict[ir.Value, list[ir.Node]] = {}
    for node in graph:
        if (weight := weight_of(node)) is not None:
            readers.setdefault(weight, []).append(node)
    return readers


def _quantizes_embedding(weight: ir.Value, is_tied: bool, quantization: Quantization) -> bool:
    """Return whether an embedding is quantized; one tied to the LM head stays one tensor with it.

    So a tied LM head is not quantized either if rows cannot be read from the quantized layout.
    """
    is_requested = is_tied if quantization.embedding is None else quantization.embedding
    size, block_size = weight_shape(weight)[1], _block_size(weight, quantization)
    is_possible = is_gatherable(size, block_size, quantization.algorithm)
    if quantization.embedding and not is_possible:
        raise UserError(
            f"target.quantization.embedding=true: rows of {size} weights do not divide into blocks "
            f"of {block_size}. Choose a block_size that divides {size}, or set embedding=false"
        )
    return is_requested and is_possible


def _check_patterns(patterns: Iterable[str], modules: list[str]) -> None:
    """Raise UserError for patterns that match no quantized module."""
    unmatched = [p for p in patterns if not any(_matches([p], module) for module in modules)]
    if unmatched:
        examples = ", ".join(dict.fromkeys([*modules[-2:], *modules[:6]]))
        raise UserError(
            f"target.quantization.eight_bit={unmatched}: no quantized module has this name. Choose "
            f"from {examples}, ... (* matches any characters)"
        )


def _matches(patterns: Iterable[str], module: str) -> bool:
    """Return whether a module path such as model.layers.0.mlp.down_proj matches a pattern."""
    return any(fnmatchcase(module, pattern) for pattern in patterns)
