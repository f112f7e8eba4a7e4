"""Which weights of a graph are quantized, and how each."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import onnx_ir as ir
import torch

from slmflow.config.schema.target import Quantization
from slmflow.conversion.passes.graph import (
    Source,
    embedded_weight,
    module_of,
    multiplied_weight,
    name_of,
    shape_of,
    source_of,
)
from slmflow.conversion.quantization import blockwise
from slmflow.conversion.quantization.blockwise import QuantizedWeight
from slmflow.errors import UserError


@dataclass(frozen=True)
class Scheme:
    """How one weight is quantized; `bits` as its module has them."""

    source: Source
    bits: int
    quantization: Quantization

    def apply(self, weight: torch.Tensor) -> QuantizedWeight:
        """Quantize a weight, float32 [N, K]."""
        return blockwise.quantize(
            weight.numpy(),
            bits=self.bits,
            block_size=self.quantization.block_size,
            symmetric=self.quantization.symmetric,
            algorithm=self.quantization.algorithm,
        )


def choose(graph: ir.Graph, quantization: Quantization | None) -> dict[str, Scheme]:
    """Return the scheme of each weight that is quantized: those of MatMuls, perhaps the embedding.

    Raises UserError for modules to keep at 8 bits that are not quantized, and where the embedding
    cannot be quantized though it is asked for.
    """
    if quantization is None:
        return {}
    multiplied = _readers(graph, multiplied_weight)
    embedded = _readers(graph, embedded_weight)
    modules = {
        weight: [module_of(node) for node in multiplied.get(weight, []) + embedded.get(weight, [])]
        for weight in multiplied | embedded
    }
    quantized = {
        weight: named
        for weight, named in modules.items()
        if blockwise.quantizable(shape_of(weight))
        and (weight not in embedded or _takes_embedding(weight, weight in multiplied, quantization))
    }
    _refuse_unknown(quantization.eight_bit, list(itertools.chain(*quantized.values())))
    return {
        name_of(weight): Scheme(source_of(weight), _bits(named, quantization), quantization)
        for weight, named in quantized.items()
    }


def _readers(
    graph: ir.Graph, weight_of: Callable[[ir.Node], ir.Value | None]
) -> dict[ir.Value, list[ir.Node]]:
    """Return the weights of a kind, each with the nodes that read it: two where it is tied."""
    found: dict[ir.Value, list[ir.Node]] = {}
    for node in graph:
        if (weight := weight_of(node)) is not None:
            found.setdefault(weight, []).append(node)
    return found


def _bits(modules: Iterable[str], quantization: Quantization) -> int:
    kept = any(blockwise.matches(quantization.eight_bit, module) for module in modules)
    return 8 if kept else quantization.bits


def _takes_embedding(weight: ir.Value, tied: bool, quantization: Quantization) -> bool:
    """Return whether an embedding is quantized. One tied to the LM head stays one tensor with it.

    So where rows cannot be read from what is quantized, a tied LM head is not quantized either.
    """
    wanted = tied if quantization.embedding is None else quantization.embedding
    size, block = shape_of(weight)[1], quantization.block_size
    can = blockwise.gatherable(size, block, quantization.algorithm)
    if quantization.embedding and not can:
        raise UserError(
            f"target.quantization.embedding=true: rows of {size} cannot be cut into blocks of "
            f"{block}: choose a block_size that divides {size}, or embedding=false"
        )
    return wanted and can


def _refuse_unknown(patterns: Iterable[str], modules: list[str]) -> None:
    if unknown := blockwise.unmatched(patterns, modules):
        some = ", ".join(dict.fromkeys([*modules[-2:], *modules[:6]]))
        raise UserError(
            f"target.quantization.eight_bit={unknown}: no such module is quantized. Name some of "
            f"{some}, ... (a * stands for any letters)"
        )
