"""Pass `last_position`: compute what follows the last attention for each row's last position only.

Matches: all nodes after the last GroupQueryAttention, or else the LM head alone, provided that each
treats every position by itself.
Replaces: each value [batch, position, size] that flows into them with a GatherND of one position
per row, [batch, 1, size].
Why: generation reads no other logits, while the LM head and the last layer's MLP are a large part
of the prefill.

`undo` restores the logits of all positions, which parity needs.
"""

from collections.abc import Iterable, Sequence

import onnx_ir as ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass

from slmflow.conversion.decoder_spec import DecoderSpec
from slmflow.conversion.passes.graph import (
    PassReport,
    constant_value,
    consumers,
    rank,
    static_values,
)
from slmflow.conversion.passes.graph_editor import GraphEditor, clean_up

_NODE_PREFIX = "/last_position/keep."

# Operators that treat every position of [batch, position, size] by itself.
_POSITIONWISE = frozenset(
    {
        *("MatMul", "Add", "Sub", "Mul", "Div", "Neg", "Pow", "Sqrt", "ReduceMean", "Reciprocal"),
        *("Sigmoid", "Tanh", "Erf", "Relu", "Gelu", "Slice", "Cast"),
        *("LayerNormalization", "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"),
    }
)


def restrict(model: ir.Model, decoder: DecoderSpec) -> PassReport:
    """Pass only each row's last position on, after the last attention or before the LM head."""
    attentions = [node for node in model.graph if node.op_type == "GroupQueryAttention"]
    after_attention = consumers(attentions[-1].outputs[0]) if attentions else []
    head = [node for node in model.graph if node.name == "/lm_head/MatMul"]
    static = static_values(model.graph)
    for start, reason in ((after_attention, ""), (head, "the last layer runs on all positions")):
        tail = _downstream(start)
        if entries := _entries(model.graph, tail, static):
            _gather_last(model, tail, entries)
            return PassReport("last_position", 1, 1, reason)
    return PassReport("last_position", 0, 1, "the logits of a position depend on other positions")


def undo(model: ir.Model) -> None:
    """Pass all positions on again."""
    for node in list(model.graph):
        source = node.inputs[0] if (node.name or "").startswith(_NODE_PREFIX) else None
        if source is not None:
            ir.convenience.replace_all_uses_with(node.outputs[0], source)
    _set_positions(model, "sequence_length")
    clean_up(model)


def _downstream(start: Iterable[ir.Node]) -> set[ir.Node]:
    """Return these nodes and all that depend on them."""
    reached: set[ir.Node] = set()
    pending = list(start)
    while pending:
        if (node := pending.pop()) not in reached:
            reached.add(node)
            pending += [reader for value in node.outputs for reader in consumers(value)]
    return reached


def _entries(graph: ir.Graph, tail: set[ir.Node], static: frozenset[ir.Value]) -> list[ir.Value]:
    """Return the values that flow into the tail, or none if the tail mixes positions."""
    nodes = [node for node in graph if node in tail]
    if not all(node.op_type in _POSITIONWISE and _keeps_positions(node) for node in nodes):
        return []
    inputs = dict.fromkeys(value for node in nodes for value in node.inputs)  # an ordered set
    entries = [
        value
        for value in inputs
        if value is not None and value.producer() not in tail and value not in static
    ]
    return entries if all(rank(value) == 3 for value in entries) else []


def _keeps_positions(node: ir.Node) -> bool:
    """Return whether a node with axes works on the last one; most operators have no axes."""
    if node.op_type == "LayerNormalization":
        return "axis" not in node.attributes or node.attributes["axis"].as_int() in (-1, 2)
    if node.op_type not in ("Slice", "ReduceMean"):
        return True
    axes = constant_value(node.inputs[3 if node.op_type == "Slice" else 1])
    return axes is not None and axes.tolist() in ([-1], [2])


def _gather_last(model: ir.Model, tail: set[ir.Node], entries: Sequence[ir.Value]) -> None:
    editor = GraphEditor(model)
    index = _add_last_index(editor)
    for number, value in enumerate(entries):
        uses = [use for use in value.uses() if use.node in tail]
        gathered = editor.add("GatherND", [value, index], f"{_NODE_PREFIX}{number}", batch_dims=1)
        gathered.type = value.type
        for use in uses:
            use.node.replace_input_with(use.idx, gathered)
    _set_positions(model, 1)
    clean_up(model)
    CommonSubexpressionEliminationPass()(model)  # the attention pass computes the lengths too


def _set_positions(model: ir.Model, positions: int | str) -> None:
    logits = next(value for value in model.graph.outputs if value.name == "logits")
    if logits.shape is not None:
        logits.shape = ir.Shape([logits.shape[0], positions, *logits.shape[2:]])


def _add_last_index(editor: GraphEditor) -> ir.Value:
    """Return each row's last position among the new tokens: int64 [batch, 1, 1].

    In the prefill that is the position before the right padding. While decoding, a row's length
    counts the cached tokens too, and the index is that of the last new token.
    """
    path, one = "/last_position/", editor.integers([1])
    mask = editor.input("attention_mask")
    lengths = editor.add("ReduceSum", [mask, one], f"{path}lengths", keepdims=0)
    last = editor.add("Sub", [lengths, one], f"{path}last")
    new = editor.add("Shape", [editor.input("input_ids")], f"{path}new", start=1, end=2)
    last_new = editor.add("Sub", [new, one], f"{path}last_new")
    index = editor.add("Min", [last, last_new], f"{path}index")
    return editor.add("Unsqueeze", [index, editor.integers([1, 2])], f"{path}indices")
