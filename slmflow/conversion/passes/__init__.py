"""Passes over the exported graph: each replaces what it recognises and leaves the rest alone.

A pass changes the graph in place and returns a `Matched`. None may lose a weight; `fuse` sees to
that.
"""

from collections.abc import Callable

import onnx_ir as ir
from onnxscript import optimizer

from slmflow.console.messages import quiet
from slmflow.conversion.decoder import Decoder
from slmflow.conversion.passes import attention, last_position, norms, projections, residual
from slmflow.conversion.passes.graph import Matched, weights_in_use
from slmflow.errors import UserError


def fuse(model: ir.Model, decoder: Decoder) -> list[Matched]:
    """Run all passes, and return what each one matched.

    Raises UserError where a weight that was in use before a pass no longer is after it.
    """
    passes = (
        attention.fuse,  # first: it takes away most of the nodes that folding has to look at
        _fold,
        projections.split,
        norms.fuse,
        residual.fuse,
        last_position.keep,
    )
    return [_guarded(run, model, decoder) for run in passes]


def _guarded(
    run: Callable[[ir.Model, Decoder], Matched], model: ir.Model, decoder: Decoder
) -> Matched:
    before = weights_in_use(model)
    with quiet():
        matched = run(model, decoder)
    if lost := sorted(before - weights_in_use(model)):
        raise UserError(
            f"the graph pass {matched.name} lost {len(lost)} weights ({lost[0]}, ...), so the "
            "model would be another one: it is not converted. Try exporter=builder"
        )
    return matched


def _fold(model: ir.Model, decoder: Decoder) -> Matched:
    """Compute what is constant, by ONNX Script's optimizer; weights are inputs and stay."""
    before = model.graph.num_nodes()
    optimizer.optimize_ir(model, num_iterations=2)
    return Matched("fold", before - model.graph.num_nodes(), before)
