"""Choice of the weights to quantize, and the scheme of each."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import onnx_ir as ir
import torch

from slmflow.config.schema.target import Quantization
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


@dataclass(frozen=True)
class Scheme:
    """How one weight is quantized; `bits` may differ from the target's for its module."""

    source: WeightSource
    bits: int
    quantization: Quantization

    def quantize(self, weight: torch.Tensor) -> QuantizedWeight:
        """Quantize a weight float32 [N, K]."""
        return algorithms.quantize(
            weight.numpy(),
            bits=self.bits,
            block_size=self.quantization.block_size,
            symmetric=self.quantization.symmetric,
            algorithm=self.quantization.algorithm,
        )


def choose(graph: ir.Graph, quantization: Quantization | None) -> dict[str, Scheme]:
    """Return the schemes by weight name: all MatMul weights, and the embedding if so configured.

    Raises UserError if `eight_bit` names a module that is not quantized, and if the embedding
    cannot be quantized although the target requires it.
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
        bits = 8 if is_eight_bit else quantization.bits
        chosen[value_name(weight)] = Scheme(weight_source(weight), bits, quantization)
    return chosen


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
    size, block_size = weight_shape(weight)[1], quantization.block_size
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
