"""Pass `residual`: fuse a residual sum and the norm after it into SkipSimplifiedLayerNormalization.

Matches: a SimplifiedLayerNormalization that reads an Add of two values [batch, sequence, hidden].
Norms of other values (queries, keys, embeddings, a layer's own output) are not candidates.
Replaces them with: one `com.microsoft.SkipSimplifiedLayerNormalization`, which returns the norm and
the sum; the sum serves the other nodes that read it.
Why: it saves one pass over the hidden states per norm.
"""

import onnx_ir as ir

from slmflow.conversion.decoder_spec import DecoderSpec
from slmflow.conversion.passes.graph import PassReport, rank, static_values
from slmflow.conversion.passes.graph_editor import CONTRIB, GraphEditor, clean_up


def fuse(model: ir.Model, decoder: DecoderSpec) -> PassReport:
    """Fuse every norm with the residual sum before it."""
    editor = GraphEditor(model)
    static = static_values(model.graph)
    norms = [node for node in model.graph if node.op_type == "SimplifiedLayerNormalization"]
    pairs = [(norm, add) for norm in norms if (add := _residual_add(norm, static)) is not None]
    for norm, add in pairs:
        _replace(editor, norm, add)
    clean_up(model)
    return PassReport("residual", len(pairs), len(pairs))


def _residual_add(norm: ir.Node, static: frozenset[ir.Value]) -> ir.Node | None:
    """Return the Add of two hidden states that a norm reads, None if it reads another value."""
    source = norm.inputs[0]
    add = source.producer() if source is not None else None
    if add is None or add.op_type != "Add":
        return None
    return add if all(value not in static and rank(value) == 3 for value in add.inputs) else None


def _replace(editor: GraphEditor, norm: ir.Node, add: ir.Node) -> None:
    prefix = (norm.name or "").removesuffix("SimplifiedLayerNormalization")
    normalized, mean, deviation, total = editor.add_multi_output(
        "SkipSimplifiedLayerNormalization",
        [*add.inputs, norm.inputs[1]],
        f"{prefix}SkipSimplifiedLayerNormalization",
        4,
        domain=CONTRIB,
        epsilon=norm.attributes["epsilon"].as_float(),
    )
    mean.name = deviation.name = ""  # leaves these optional outputs out
    editor.replace(norm.outputs[0], normalized)
    editor.replace(add.outputs[0], total)
