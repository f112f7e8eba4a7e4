"""Traced graphs of the two-layer models, each traced once."""

import functools
from collections import Counter

import onnx_ir as ir

from slmflow.conversion import decoder, passes, reference_model, tracing
from slmflow.conversion.decoder import Decoder
from tests.conversion.architectures import FUSED, UNFUSED


def graph(name: str) -> tuple[ir.Model, Decoder]:
    """Return the graph as optimum exports it, to be changed, and what is known of the model."""
    model, known = _traced(name)
    return model.clone(), known


def folded(name: str) -> tuple[ir.Model, Decoder]:
    """Return the graph with its constants computed, as the norms' pass finds it."""
    model, known = _folded(name)
    return model.clone(), known


def fold(model: ir.Model, known: Decoder) -> None:
    """Compute the graph's constants, as `passes.fuse` does after the attention."""
    passes._fold(model, known)


def operators(model: ir.Model) -> Counter[str]:
    """Return how often each operator occurs."""
    return Counter(node.op_type for node in model.graph)


@functools.cache
def _traced(name: str) -> tuple[ir.Model, Decoder]:
    model = tracing.weightless(reference_model.without_weights((FUSED | UNFUSED)[name]))
    return tracing.trace(model), decoder.describe(model)


@functools.cache
def _folded(name: str) -> tuple[ir.Model, Decoder]:
    model, known = graph(name)
    fold(model, known)
    return model, known
