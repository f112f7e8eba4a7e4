"""Pass `fold`: compute constant expressions once, with ONNX Script's optimizer.

Matches: every node whose inputs are constants. Weights are graph inputs, so nothing computed from
them is folded.
Replaces it with: its value.
Why: optimum exports shapes, masks and scales as chains of small nodes, which hide the patterns of
the later passes and cost time for every token.
"""

import onnx_ir as ir
from onnxscript import optimizer

from slmflow.conversion.decoder_spec import DecoderSpec
from slmflow.conversion.passes.graph import PassReport


def fold(model: ir.Model, decoder: DecoderSpec) -> PassReport:
    """Fold constants; `matched` counts the nodes that are gone, `candidates` all nodes before."""
    before = model.graph.num_nodes()
    optimizer.optimize_ir(model, num_iterations=2)
    return PassReport("fold", before - model.graph.num_nodes(), before)
