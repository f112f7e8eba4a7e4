"""Add branches for LoRA to the graph: `x @ A @ B` is added to the product of an adapted weight.

A and B are inputs of the graph with a default of rank 0, which adds nothing. The runtime replaces
them with those of the adapter that a generator uses, of any rank.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from slmflow.conversion.passes.graph import matmul_weight, weight_shape, weight_source
from slmflow.conversion.passes.graph_editor import GraphEditor, clean_up
from slmflow.errors import UserError


@dataclass(frozen=True)
class Branch:
    """One use of an adapted weight, or of rows of it.

    path: of the module; a: name of the input float32 [inputs, rank]; b: name of the input float32
    [rank, stop - start], for the rows `start` to `stop` of the weight.
    """

    path: str
    a: str
    b: str
    start: int
    stop: int


def add(model: ir.Model, paths: Collection[str]) -> list[Branch]:
    """Add a branch wherever the graph multiplies with the weight of one of the modules.

    Raises UserError for a module whose weight the graph does not multiply with.
    """
    editor, branches = GraphEditor(model), []
    reduced: dict[str, ir.Value] = {}
    for node in list(model.graph):
        weight = matmul_weight(node)
        path = weight_source(weight).name.removesuffix(".weight") if weight is not None else ""
        if weight is None or path not in paths:
            continue
        source, (rows, columns) = weight_source(weight), weight_shape(weight)
        branch = Branch(
            path,
            f"{path}.lora_A",
            f"{path}.lora_B.{source.start}",
            source.start,
            source.start + rows,
        )
        name = f"{node.name}_LoRA"
        if path not in reduced:
            a = _optional_input(editor, model.graph, branch.a, (columns, 0))
            reduced[path] = editor.add("MatMul", [node.inputs[0], a], f"{name}_A")
        b = _optional_input(editor, model.graph, branch.b, (0, rows))
        product = node.outputs[0]
        added = editor.add("MatMul", [reduced[path], b], f"{name}_B")
        readers = list(product.uses())
        total = editor.add("Add", [product, added], name)
        total.type, total.shape = product.type, product.shape
        for use in readers:
            use.node.replace_input_with(use.idx, total)
        if product.is_graph_output():
            raise UserError(f"an adapter of {path} cannot be kept separate: use adapter_mode=merge")
        branches.append(branch)
    if missing := sorted(set(paths) - {branch.path for branch in branches}):
        raise UserError(
            f"adapters of {', '.join(missing[:3])} cannot be kept separate, because the graph does "
            "not multiply with these weights as they are: use model.adapter_mode=merge"
        )
    clean_up(model)
    return branches


def _optional_input(
    editor: GraphEditor, graph: ir.Graph, name: str, shape: tuple[int, int]
) -> ir.Value:
    """Add an input with a default of rank 0, whose rank may be any other."""
    value = editor.initializer(name, np.zeros(shape, dtype=np.float32))
    rank = f"{name.rpartition('.lora_')[0]}.rank"
    value.shape = ir.Shape([size or rank for size in shape])
    graph.inputs.append(value)
    return value
