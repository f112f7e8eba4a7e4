"""Graph and weights on disk: one file of external data, written tensor by tensor."""

from pathlib import Path
from typing import Any

import onnx_ir as ir

from slmflow.console.messages import transferring

GRAPH = "model.onnx"
DATA = f"{GRAPH}.data"


def save(model: ir.Model, folder: Path, what: str) -> None:
    """Write the graph to `folder/model.onnx`; its tensors, made one at a time, go beside it.

    what: what is written, for the progress bar.
    """
    _forget_shapes(model.graph)
    sizes = [v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value]
    with transferring() as progress:
        task = progress.add_task(what, total=sum(sizes))

        def advance(tensor: ir.TensorProtocol, info: Any) -> None:
            progress.advance(task, tensor.nbytes)

        # One at a time: two in memory would be two of the largest.
        ir.save(model, folder / GRAPH, external_data=DATA, callback=advance, max_workers=1)
        progress.update(task, completed=sum(sizes))


def _forget_shapes(graph: ir.Graph) -> None:
    """Leave out what the trace knew of shapes inside: its names for them differ between traces."""
    for node in graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = value.type = None
