"""RMS norms to SimplifiedLayerNormalization."""

from collections import Counter
from collections.abc import Sequence

import onnx_ir as ir

from slmflow.conversion.decoder import Decoder, Norm
from slmflow.conversion.passes.graph import (
    Builder,
    Matched,
    by_scope,
    constant,
    finish,
    fixed_values,
    scope,
)

# The squares' mean, a small number added, the root, and the product with what is left.
_OPERATORS = {"Pow", "ReduceMean", "Add", "Sqrt", "Div", "Reciprocal", "Mul", "Cast"}


def fuse(model: ir.Model, decoder: Decoder) -> Matched:
    """Replace the nodes of every RMS norm by one, whose weight is what the norm multiplies by."""
    nodes = by_scope(model.graph, (norm.path for norm in decoder.norms))
    build = Builder(model)
    fixed = fixed_values(model.graph)
    unlike = [n for n in decoder.norms if not _replace(build, n, nodes[n.path], fixed)]
    finish(model)
    total = len(decoder.norms)
    reason = f"{unlike[0].path} is computed in another way" if unlike else ""
    return Matched("norms", total - len(unlike), total, reason)


def _replace(
    build: Builder, norm: Norm, nodes: Sequence[ir.Node], fixed: frozenset[ir.Value]
) -> bool:
    if not nodes or not _is_rms_norm(nodes):
        return False
    last = nodes[-1]
    weights = [value for value in last.inputs if value in fixed]
    inside = set(nodes)
    inputs = {
        value: None
        for node in nodes
        for value in node.inputs
        if value is not None and value.producer() not in inside and value not in fixed
    }
    if len(weights) != 1 or len(inputs) != 1:
        return False
    made = build.add(
        # Of the standard domain for ONNX Runtime, though no ONNX standard has it.
        "SimplifiedLayerNormalization",
        [*inputs, weights[0]],
        f"{scope(norm.path)}SimplifiedLayerNormalization",
        axis=-1,
        epsilon=float(norm.epsilon),
        stash_type=1,
    )
    build.replace(last.outputs[0], made)
    return True


def _is_rms_norm(nodes: Sequence[ir.Node]) -> bool:
    used = Counter(node.op_type for node in nodes)
    power = next((node for node in nodes if node.op_type == "Pow"), None)
    return (
        used.keys() <= _OPERATORS
        and used["Pow"] == used["ReduceMean"] == used["Sqrt"] == 1
        and used["Div"] + used["Reciprocal"] == 1
        and nodes[-1].op_type == "Mul"
        and power is not None
        and (exponent := constant(power.inputs[1])) is not None
        and exponent.item() == 2
    )
