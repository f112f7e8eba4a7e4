"""Traced graphs of the two-layer models, each traced once."""

import functools
from collections import Counter

import onnx_ir as ir

from slmflow.conversion import decoder_spec, reference_model, torch_tracing
from slmflow.conversion.decoder_spec import DecoderSpec
from slmflow.conversion.passes.constant_folding import fold
from tests.conversion.architectures import FUSED, UNFUSED


def exported(name: str) -> tuple[ir.Model, DecoderSpec]:
    """Return a copy of the graph as optimum exports it, and the model's description."""
    model, spec = _trace(name, is_folded=False)
    return model.clone(), spec


def folded(name: str) -> tuple[ir.Model, DecoderSpec]:
    """Return a copy of the graph with its constants folded, and the model's description."""
    model, spec = _trace(name, is_folded=True)
    return model.clone(), spec


def count_operators(model: ir.Model) -> Counter[str]:
    """Return how often each operator occurs."""
    return Counter(node.op_type for node in model.graph)


@functools.cache
def _trace(name: str, *, is_folded: bool) -> tuple[ir.Model, DecoderSpec]:
    if is_folded:
        graph, spec = exported(name)
        fold(graph, spec)
        return graph, spec
    config = (FUSED | UNFUSED)[name]
    model = torch_tracing.make_traceable(reference_model.build_without_weights(config))
    return torch_tracing.trace(model), decoder_spec.describe(model)
