"""What comes after the last attention, for each row's last position only.

A generator reads no other logits, and the LM head is a large part of a prompt's work; so is what
the last layer does after its attention. `undo` gives the graph with all positions back.
"""

from collections.abc import Iterable, Sequence

import onnx_ir as ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass

from slmflow.conversion.decoder import Decoder
from slmflow.conversion.passes.graph import (
    Builder,
    Matched,
    constant,
    finish,
    fixed_values,
    rank,
    readers,
)

_KEEP = "/last_position/keep."

# They treat every position [batch, position, :] by itself.
_POSITIONWISE = frozenset(
    {
        *("MatMul", "Add", "Sub", "Mul", "Div", "Neg", "Pow", "Sqrt", "ReduceMean", "Reciprocal"),
        *("Sigmoid", "Tanh", "Erf", "Relu", "Gelu", "Slice", "Cast"),
        *("SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"),
    }
)


def keep(model: ir.Model, decoder: Decoder) -> Matched:
    """Let only each row's last position pass the last attention, or else only the LM head."""
    attention = [node for node in model.graph if node.op_type == "GroupQueryAttention"]
    layer = readers(attention[-1].outputs[0]) if attention else []
    head = [node for node in model.graph if node.name == "/lm_head/MatMul"]
    fixed = fixed_values(model.graph)
    for start, reason in ((layer, ""), (head, "the last layer runs on all positions")):
        tail = _downstream(start)
        if entries := _entries(model.graph, tail, fixed):
            _cut(model, tail, entries)
            return Matched("last_position", 1, 1, reason)
    return Matched("last_position", 0, 1, "the logits are not computed position by position")


def undo(model: ir.Model) -> None:
    """Let all positions pass again."""
    for node in list(model.graph):
        given = node.inputs[0] if (node.name or "").startswith(_KEEP) else None
        if given is not None:
            ir.convenience.replace_all_uses_with(node.outputs[0], given)
    _set_positions(model, "sequence_length")
    finish(model)


def _downstream(start: Iterable[ir.Node]) -> set[ir.Node]:
    """Return these nodes and all that depend on them."""
    found: set[ir.Node] = set()
    waiting = list(start)
    while waiting:
        if (node := waiting.pop()) not in found:
            found.add(node)
            waiting += [reader for value in node.outputs for reader in readers(value)]
    return found


def _entries(graph: ir.Graph, tail: set[ir.Node], fixed: frozenset[ir.Value]) -> list[ir.Value]:
    """Return what flows into the tail, [batch, position, size] each; none if it cannot be cut."""
    nodes = [node for node in graph if node in tail]
    if not all(node.op_type in _POSITIONWISE and _keeps_positions(node) for node in nodes):
        return []
    given = {value: None for node in nodes for value in node.inputs}  # a set that keeps its order
    entries = [
        value
        for value in given
        if value is not None and value.producer() not in tail and value not in fixed
    ]
    return entries if all(rank(value) == 3 for value in entries) else []


def _keeps_positions(node: ir.Node) -> bool:
    """Tell whether a Slice or mean is one of the last axis; other operators have no axes."""
    if node.op_type not in ("Slice", "ReduceMean"):
        return True
    axes = constant(node.inputs[3 if node.op_type == "Slice" else 1])
    return axes is not None and axes.tolist() in ([-1], [2])


def _cut(model: ir.Model, tail: set[ir.Node], entries: Sequence[ir.Value]) -> None:
    build = Builder(model)
    index = _last(build)
    for number, value in enumerate(entries):
        uses = [use for use in value.uses() if use.node in tail]
        kept = build.add("GatherND", [value, index], f"{_KEEP}{number}", batch_dims=1)
        kept.type = value.type
        for use in uses:
            use.node.replace_input_with(use.idx, kept)
    _set_positions(model, 1)
    finish(model)
    CommonSubexpressionEliminationPass()(model)  # attention has counted the lengths already


def _set_positions(model: ir.Model, positions: int | str) -> None:
    logits = next(value for value in model.graph.outputs if value.name == "logits")
    if logits.shape is not None:
        logits.shape = ir.Shape([logits.shape[0], positions, *logits.shape[2:]])


def _last(build: Builder) -> ir.Value:
    """Return each row's last position among the new ones: int64 [batch, 1, 1].

    Padding is on the right of a prompt. After it a row's length counts the cache too, and the
    last of the new positions is meant.
    """
    path, one = "/last_position/", build.integers([1])
    mask = build.given("attention_mask")
    lengths = build.add("ReduceSum", [mask, one], f"{path}lengths", keepdims=0)
    last = build.add("Sub", [lengths, one], f"{path}last")
    new = build.add("Shape", [build.given("input_ids")], f"{path}new", start=1, end=2)
    last_new = build.add("Sub", [new, one], f"{path}last_new")
    index = build.add("Min", [last, last_new], f"{path}index")
    return build.add("Unsqueeze", [index, build.integers([1, 2])], f"{path}indices")
