"""ONNX files on disk: the graph, and one file of external data for its weights."""

from pathlib import Path
from typing import Any

import onnx_ir as ir

from slmflow.console.progress_bars import byte_bar

GRAPH_FILE = "model.onnx"
WEIGHTS_FILE = f"{GRAPH_FILE}.data"


def save(model: ir.Model, folder: Path, label: str) -> None:
    """Write the graph and its weights into `folder`; weights are computed one at a time.

    label: text of the progress bar.
    """
    _drop_inner_shapes(model.graph)
    sizes = [v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value]
    with byte_bar() as progress:
        task = progress.add_task(label, total=sum(sizes))

        def advance(tensor: ir.TensorProtocol, info: Any) -> None:
            progress.advance(task, tensor.nbytes)

        # One worker, so that the two largest weights are never in memory together.
        ir.save(
            model, folder / GRAPH_FILE, external_data=WEIGHTS_FILE, callback=advance, max_workers=1
        )
        progress.update(task, completed=sum(sizes))


def planned_size(model: ir.Model) -> int:
    """Return the bytes of graph and weights that `save` would write; no weight is computed."""
    tensors = {n: v.const_value for n, v in model.graph.initializers.items() if v.const_value}
    planned = model.clone()
    _drop_inner_shapes(planned.graph)
    for name, tensor in tensors.items():
        planned.graph.initializers[name].const_value = ir.ExternalTensor(
            WEIGHTS_FILE,
            offset=1 << 30,
            length=tensor.nbytes,
            dtype=tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=name,
            base_dir="",
        )
    weights = sum(tensor.nbytes for tensor in tensors.values())
    return weights + int(ir.to_proto(planned).ByteSize())


def _drop_inner_shapes(graph: ir.Graph) -> None:
    """Remove the inferred shapes inside the graph: their symbol names differ between traces."""
    for node in graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = value.type = None
