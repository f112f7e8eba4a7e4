"""Pass `projections`: split a packed projection whose output is only sliced, such as gate and up.

Matches: a MatMul with a weight whose output is read by Slices of the last axis alone, which cover
it exactly once.
Replaces them with: one MatMul per Slice, with those rows of the weight.
Why: a Slice of the output copies it for every token; rows of a weight cost nothing at run time.

A packed query, key and value stays packed after the pass `attention`, whose kernel reads it whole.
"""

from collections.abc import Mapping

import onnx_ir as ir

from slmflow.conversion.decoder_spec import DecoderSpec
from slmflow.conversion.passes.graph import (
    PassReport,
    constant_value,
    consumers,
    matmul_weight,
    weight_shape,
)
from slmflow.conversion.passes.graph_editor import GraphEditor, clean_up


def split(model: ir.Model, decoder: DecoderSpec) -> PassReport:
    """Replace each packed MatMul with one MatMul per Slice of its output."""
    editor = GraphEditor(model)
    matmuls = [(node, w) for node in model.graph if (w := matmul_weight(node)) is not None]
    packed = [
        (node, weight, slices) for node, weight in matmuls if (slices := _slices(node, weight))
    ]
    for node, weight, slices in packed:
        for slice_node, (start, stop) in slices.items():
            product = _multiply_rows(editor, node, weight, start, stop)
            editor.replace(slice_node.outputs[0], product)
    clean_up(model)
    return PassReport("projections", len(packed), len(packed))


def _slices(node: ir.Node, weight: ir.Value) -> Mapping[ir.Node, tuple[int, int]]:
    """Return the Slices of a MatMul's output, each with its first column and end.

    Empty if any other node reads the output, or if the Slices do not cover it exactly once.
    """
    size = weight_shape(weight)[0]
    columns = {reader: _sliced_columns(reader, size) for reader in consumers(node.outputs[0])}
    slices = {reader: span for reader, span in columns.items() if span is not None}
    ends = [0, *(end for _, end in sorted(slices.values()))]
    starts = [*(start for start, _ in sorted(slices.values())), size]
    return slices if len(slices) == len(columns) and starts == ends else {}


def _sliced_columns(node: ir.Node, size: int) -> tuple[int, int] | None:
    """Return the columns that a Slice of the last axis takes, None for other nodes."""
    if node.op_type != "Slice":
        return None
    arguments = [constant_value(value) for value in node.inputs[1:]]
    if any(array is None or array.size != 1 for array in arguments):
        return None
    start, end, axis, step = [*(int(a.item()) for a in arguments if a is not None), 1][:4]
    return (start, min(end, size)) if axis in (-1, 2) and step == 1 and start >= 0 else None


def _multiply_rows(
    editor: GraphEditor, node: ir.Node, weight: ir.Value, start: int, stop: int
) -> ir.Value:
    """Add a MatMul of the same input with rows of the weight."""
    name = f"{node.name}.{start}"
    rows = editor.weight_rows(weight, start, stop)
    transposed = editor.add("Transpose", [rows], f"{name}/Transpose", perm=[1, 0])
    transposed.type, transposed.shape = rows.type, ir.Shape(weight_shape(rows)[::-1])
    return editor.add("MatMul", [node.inputs[0], transposed], name)
