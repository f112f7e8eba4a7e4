"""Run all graph passes in order, each checked for lost weights.

A pass is a function of the graph and the model's description. It changes the graph in place,
replaces what it recognizes, leaves everything else alone, and returns a `PassReport`.
"""

from collections.abc import Callable

import onnx_ir as ir

from slmflow.console.library_output import silence
from slmflow.conversion.decoder_spec import DecoderSpec
from slmflow.conversion.passes import (
    attention,
    constant_folding,
    last_position,
    norms,
    projections,
    residual,
)
from slmflow.conversion.passes.graph import PassReport, weights_in_use
from slmflow.errors import UserError

GraphPass = Callable[[ir.Model, DecoderSpec], PassReport]

PASSES: tuple[GraphPass, ...] = (
    attention.fuse,  # first: it removes most of the nodes that folding would have to look at
    constant_folding.fold,
    projections.split,
    norms.fuse,
    residual.fuse,
    last_position.restrict,
)


def apply_all(model: ir.Model, decoder: DecoderSpec) -> list[PassReport]:
    """Run `PASSES` on the graph in place; return the report of each.

    Raises UserError if a pass loses a weight.
    """
    return [_run_checked(graph_pass, model, decoder) for graph_pass in PASSES]


def _run_checked(graph_pass: GraphPass, model: ir.Model, decoder: DecoderSpec) -> PassReport:
    before = weights_in_use(model)
    with silence():
        report = graph_pass(model, decoder)
    if lost := sorted(before - weights_in_use(model)):
        raise UserError(
            f"graph pass {report.name} lost {len(lost)} weights ({lost[0]}, ...), so the graph no "
            "longer computes the model and the conversion stops. Try exporter=builder"
        )
    return report
