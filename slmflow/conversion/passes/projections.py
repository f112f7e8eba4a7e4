"""Packed projections whose results are read apart, such as gate and up: one MatMul for each.

Slices of a packed result are copies, made anew for each token; rows of its weight are not. A
packed query, key and value stay packed: attention reads them as they are.
"""

from collections.abc import Mapping

import onnx_ir as ir

from slmflow.conversion.decoder import Decoder
from slmflow.conversion.passes.graph import (
    Builder,
    Matched,
    constant,
    finish,
    multiplied_weight,
    readers,
    shape_of,
)


def split(model: ir.Model, decoder: Decoder) -> Matched:
    """Replace each MatMul that only slices of its last axis read by one for each slice."""
    build = Builder(model)
    matmuls = [(node, w) for node in model.graph if (w := multiplied_weight(node)) is not None]
    packed = [(node, weight, cuts) for node, weight in matmuls if (cuts := _cuts(node, weight))]
    for node, weight, cuts in packed:
        for cut, (start, stop) in cuts.items():
            build.replace(cut.outputs[0], _rows(build, node, weight, start, stop))
    finish(model)
    return Matched("projections", len(packed), len(packed))


def _cuts(node: ir.Node, weight: ir.Value) -> Mapping[ir.Node, tuple[int, int]]:
    """Return the slices that read the result of a MatMul, each with its first column and end.

    Nothing where something else reads it, or where the slices are not all of it, once.
    """
    size = shape_of(weight)[0]
    found = {reader: _columns(reader, size) for reader in readers(node.outputs[0])}
    cuts = {reader: columns for reader, columns in found.items() if columns is not None}
    ends = [0, *(end for _, end in sorted(cuts.values()))]
    starts = [*(start for start, _ in sorted(cuts.values())), size]
    return cuts if len(cuts) == len(found) and starts == ends else {}


def _columns(node: ir.Node, size: int) -> tuple[int, int] | None:
    """Return which columns a Slice of the last axis takes, None for other nodes."""
    if node.op_type != "Slice":
        return None
    given = [constant(value) for value in node.inputs[1:]]
    if any(array is None or array.size != 1 for array in given):
        return None
    start, end, axis, step = [*(int(a.item()) for a in given if a is not None), 1][:4]
    return (start, min(end, size)) if axis in (-1, 2) and step == 1 and start >= 0 else None


def _rows(build: Builder, node: ir.Node, weight: ir.Value, start: int, stop: int) -> ir.Value:
    """Multiply with rows of the weight of a MatMul."""
    name = f"{node.name}.{start}"
    rows = build.rows_of(weight, start, stop)
    transposed = build.add("Transpose", [rows], f"{name}/Transpose", perm=[1, 0])
    transposed.type, transposed.shape = rows.type, ir.Shape(shape_of(rows)[::-1])
    return build.add("MatMul", [node.inputs[0], transposed], name)
