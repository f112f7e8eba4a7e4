"""Which weights of a graph are quantized, and how each."""

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir
import torch

from steps.common.config import Quantization
from steps.common.errors import UserError
from steps.convert import blockwise
from steps.convert.blockwise import QuantizedWeight
from steps.convert.passes.graph import is_weight, name_of, shape_of


@dataclass(frozen=True)
class Scheme:
    """How one weight is quantized; `bits` as its module has them."""

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

    Raises UserError for modules to keep at 8 bits that the model has not, and where the embedding
    cannot be quantized though it is asked for.
    """
    if quantization is None:
        return {}
    multiplied = _named(multiplied_weight(node) for node in graph)
    embedded = _named(embedded_weight(node) for node in graph)
    weights = multiplied | embedded
    _refuse_unknown(quantization.eight_bit, [_module(name) for name in weights])
    chosen = (
        name
        for name, weight in weights.items()
        if blockwise.quantizable(shape_of(weight))
        and (name not in embedded or _takes_embedding(weight, name in multiplied, quantization))
    )
    return {name: Scheme(_bits(name, quantization), quantization) for name in chosen}


def multiplied_weight(node: ir.Node) -> ir.Value | None:
    """Return the weight [N, K] of a MatMul with its transpose, None for other nodes."""
    given = node.inputs[1] if node.op_type == "MatMul" else None
    transpose = given.producer() if given is not None else None
    if transpose is None or transpose.op_type != "Transpose":
        return None
    weight = transpose.inputs[0]
    return weight if weight is not None and _is_matrix(weight) else None


def embedded_weight(node: ir.Node) -> ir.Value | None:
    """Return the weight [vocabulary, size] of an embedding, None for other nodes."""
    weight = node.inputs[0] if node.op_type == "Gather" else None
    return weight if weight is not None and _is_matrix(weight) else None


def _is_matrix(value: ir.Value) -> bool:
    return is_weight(value) and len(shape_of(value)) == 2


def _named(weights: Iterable[ir.Value | None]) -> dict[str, ir.Value]:
    return {name_of(weight): weight for weight in weights if weight is not None}


def _module(weight: str) -> str:
    return weight.removesuffix(".weight")


def _bits(name: str, quantization: Quantization) -> int:
    kept = blockwise.matches(quantization.eight_bit, _module(name))
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
        some = ", ".join([*modules[-2:], *modules[:6]])
        raise UserError(
            f"target.quantization.eight_bit={unknown}: the model has no such module. Name some of "
            f"{some}, ... (a * stands for any letters)"
        )
