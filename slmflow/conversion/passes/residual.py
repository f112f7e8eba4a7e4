"""The residual's sum and the norm that reads it, in one SkipSimplifiedLayerNormalization."""

import onnx_ir as ir

from slmflow.conversion.decoder import Decoder
from slmflow.conversion.passes.graph import CONTRIB, Builder, Matched, finish, fixed_values, rank


def fuse(model: ir.Model, decoder: Decoder) -> Matched:
    """Fuse each norm with the sum before it; the sum itself stays a result for its other readers.

    Norms of other things (queries, keys, embeddings, a layer's own results) are no candidates.
    """
    build = Builder(model)
    fixed = fixed_values(model.graph)
    norms = [node for node in model.graph if node.op_type == "SimplifiedLayerNormalization"]
    pairs = [(norm, added) for norm in norms if (added := _sum(norm, fixed)) is not None]
    for norm, added in pairs:
        _replace(build, norm, added)
    finish(model)
    return Matched("residual", len(pairs), len(pairs))


def _sum(norm: ir.Node, fixed: frozenset[ir.Value]) -> ir.Node | None:
    """Return the Add of two streams [batch, sequence, hidden] whose result a norm reads."""
    given = norm.inputs[0]
    added = given.producer() if given is not None else None
    if added is None or added.op_type != "Add":
        return None
    streams = all(value not in fixed and rank(value) == 3 for value in added.inputs)
    return added if streams else None


def _replace(build: Builder, norm: ir.Node, added: ir.Node) -> None:
    name = (norm.name or "").removesuffix("SimplifiedLayerNormalization")
    normed, mean, deviation, total = build.add_multiple(
        "SkipSimplifiedLayerNormalization",
        [*added.inputs, norm.inputs[1]],
        f"{name}SkipSimplifiedLayerNormalization",
        4,
        domain=CONTRIB,
        epsilon=norm.attributes["epsilon"].as_float(),
    )
    mean.name = deviation.name = ""  # optional results, not asked for
    build.replace(norm.outputs[0], normed)
    build.replace(added.outputs[0], total)
