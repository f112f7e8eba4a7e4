"""Pass `norms`: fuse each RMS norm into one SimplifiedLayerNormalization.

Matches: the nodes of a module that computes an RMS norm (Zhang and Sennrich 2019,
https://arxiv.org/abs/1910.07467): square, mean, epsilon, root, quotient, product with a weight.
Replaces them with: one `SimplifiedLayerNormalization`, ONNX Runtime's name for the RMS norm.
Why: one kernel instead of six or more, and the form that the pass `residual` matches.
"""

from collections import Counter
from collections.abc import Sequence

import onnx_ir as ir

from slmflow.conversion.decoder_spec import DecoderSpec, NormSpec
from slmflow.conversion.passes.graph import (
    PassReport,
    constant_value,
    node_prefix,
    nodes_by_module,
    static_values,
)
from slmflow.conversion.passes.graph_editor import GraphEditor, clean_up

_OPERATORS = {"Pow", "ReduceMean", "Add", "Sqrt", "Div", "Reciprocal", "Mul", "Cast"}


def fuse(model: ir.Model, decoder: DecoderSpec) -> PassReport:
    """Replace the nodes of every RMS norm, whatever expression computes its weight."""
    nodes = nodes_by_module(model.graph, (norm.path for norm in decoder.norms))
    editor = GraphEditor(model)
    static = static_values(model.graph)
    skipped = [n for n in decoder.norms if not _replace(editor, n, nodes[n.path], static)]
    clean_up(model)
    total = len(decoder.norms)
    reason = f"{skipped[0].path} is not computed as an RMS norm" if skipped else ""
    return PassReport("norms", total - len(skipped), total, reason)


def _replace(
    editor: GraphEditor, norm: NormSpec, nodes: Sequence[ir.Node], static: frozenset[ir.Value]
) -> bool:
    """Replace the nodes of one norm; return False if they do not match."""
    if not nodes or not _is_rms_norm(nodes):
        return False
    last = nodes[-1]
    weights = [value for value in last.inputs if value in static]
    inside = set(nodes)
    inputs = dict.fromkeys(
        value
        for node in nodes
        for value in node.inputs
        if value is not None and value.producer() not in inside and value not in static
    )
    if len(weights) != 1 or len(inputs) != 1:
        return False
    fused = editor.add(
        # ONNX Runtime defines it in the standard domain; no version of ONNX does.
        "SimplifiedLayerNormalization",
        [*inputs, weights[0]],
        f"{node_prefix(norm.path)}SimplifiedLayerNormalization",
        axis=-1,
        epsilon=float(norm.epsilon),
        stash_type=1,
    )
    editor.replace(last.outputs[0], fused)
    return True


def _is_rms_norm(nodes: Sequence[ir.Node]) -> bool:
    counts = Counter(node.op_type for node in nodes)
    power = next((node for node in nodes if node.op_type == "Pow"), None)
    return (
        counts.keys() <= _OPERATORS
        and counts["Pow"] == counts["ReduceMean"] == counts["Sqrt"] == 1
        and counts["Div"] + counts["Reciprocal"] == 1
        and nodes[-1].op_type == "Mul"
        and power is not None
        and (exponent := constant_value(power.inputs[1])) is not None
        and exponent.item() == 2
    )
