"""Pass `attention`: fuse each layer's attention into one GroupQueryAttention.

Matches: in every layer, the nodes between the projections of query, key and value (packed or
separate, with or without query and key norms) and the output projection. They are matched by
node name, which contains the module path.
Replaces them with: one `com.microsoft.GroupQueryAttention`, ONNX Runtime's kernel for grouped-query
attention. It rotates queries and keys, applies scale, soft cap, sliding window and causal mask, and
appends to the KV cache.
Why: optimum exports these as dozens of nodes per layer that copy the whole cache for every token.
The kernel updates the cache in place.

The kernel takes sequence lengths from the attention mask, so the input `position_ids` goes away and
prompts must be padded on the right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from slmflow.conversion.decoder_spec import AttentionSpec, DecoderSpec
from slmflow.conversion.passes.graph import PassReport, node_prefix, nodes_by_module
from slmflow.conversion.passes.graph_editor import CONTRIB, GraphEditor, clean_up
from slmflow.conversion.rotary import RotaryCache

_PROJECTIONS = ("qkv_proj", "q_proj", "k_proj", "v_proj")
# Phi and the others name the norms differently.
_QUERY_NORMS, _KEY_NORMS = ("q_norm", "q_layernorm"), ("k_norm", "k_layernorm")
_INPUTS = (*_PROJECTIONS, *_QUERY_NORMS, *_KEY_NORMS)


@dataclass(frozen=True)
class _Boundary:
    """Values at the ends of one attention: projected query, key and value, and input of o_proj.

    `key` and `value` are None if `query` packs all three.
    """

    query: ir.Value
    key: ir.Value | None
    value: ir.Value | None
    output: ir.Value


@dataclass(frozen=True)
class _SharedInputs:
    """Kernel inputs that all layers share.

    last_positions: int32 [batch], length of each row minus one; longest: int32 scalar, the longest
    length; caches: cosines and sines by the name of the rotary embedding.
    """

    last_positions: ir.Value
    longest: ir.Value
    caches: Mapping[str, tuple[ir.Value, ir.Value]]


def fuse(model: ir.Model, decoder: DecoderSpec) -> PassReport:
    """Replace the attention of all layers, or of none: the layers share the KV cache's layout."""
    boundaries = _find_boundaries(model.graph, decoder.attentions)
    if reason := _unsupported_reason(decoder, boundaries):
        return PassReport("attention", 0, decoder.layers, reason)
    editor = GraphEditor(model)
    shared = _add_shared_inputs(editor, decoder)
    for layer, (attention, boundary) in enumerate(zip(decoder.attentions, boundaries, strict=True)):
        if boundary is not None:
            _replace(editor, layer, attention, boundary, shared)
    clean_up(model)
    return PassReport("attention", decoder.layers, decoder.layers)


def _unsupported_reason(decoder: DecoderSpec, boundaries: Sequence[_Boundary | None]) -> str:
    """Return why the attention cannot be replaced, or an empty string."""
    if decoder.unsupported:
        return f"no support for {', '.join(sorted(decoder.unsupported))}"
    if len(decoder.attentions) != decoder.layers:
        return f"{len(decoder.attentions)} attention modules in {decoder.layers} layers"
    for attention, boundary in zip(decoder.attentions, boundaries, strict=True):
        if boundary is None:
            return f"{attention.path} lacks the projections of its class"
        if attention.rotary and attention.head_size % 16:
            return f"head size {attention.head_size} is not a multiple of 16"
    for cache in decoder.rotary_caches.values():
        if (rotary_size := 2 * cache.cos.shape[1]) % 16:
            return f"rotary size {rotary_size} is not a multiple of 16"
    return ""


def _find_boundaries(
    graph: ir.Graph, attentions: Sequence[AttentionSpec]
) -> list[_Boundary | None]:
    paths = [f"{a.path}.{name}" for a in attentions for name in (*_INPUTS, a.output)]
    nodes = nodes_by_module(graph, paths)
    return [
        _boundary(
            {name: nodes[f"{attention.path}.{name}"] for name in _INPUTS},
            nodes[f"{attention.path}.{attention.output}"],
        )
        for attention in attentions
    ]


def _boundary(
    inputs: Mapping[str, list[ir.Node]], output_projection: Sequence[ir.Node]
) -> _Boundary | None:
    """Return the boundary of one attention from the nodes of its submodules."""
    # The output of a submodule is that of its last node, which is not the MatMul if it has a bias.
    outputs = {name: listed[-1].outputs[0] for name, listed in inputs.items() if listed}
    matmul = next((node for node in output_projection if node.op_type == "MatMul"), None)
    if matmul is None or (end := matmul.inputs[0]) is None:
        return None
    projected = outputs.keys() & set(_PROJECTIONS)
    if outputs.keys() == {"qkv_proj"}:
        return _Boundary(outputs["qkv_proj"], None, None, end)
    if projected == {"q_proj", "k_proj", "v_proj"}:
        query = _last_output(outputs, ("q_proj", *_QUERY_NORMS))
        key = _last_output(outputs, ("k_proj", *_KEY_NORMS))
        return _Boundary(query, key, outputs["v_proj"], end)
    return None


def _last_output(outputs: Mapping[str, ir.Value], names: Sequence[str]) -> ir.Value:
    """Return the output of the last of the named submodules that a model has."""
    return [outputs[name] for name in names if name in outputs][-1]


def _add_shared_inputs(editor: GraphEditor, decoder: DecoderSpec) -> _SharedInputs:
    mask = editor.input("attention_mask")
    path = "/model/attention"
    lengths = editor.add("ReduceSum", [mask, editor.integers([1])], f"{path}/lengths", keepdims=0)
    last = editor.add("Sub", [lengths, editor.integers([1])], f"{path}/last")
    longest = editor.add("Shape", [mask], f"{path}/longest", start=1, end=2)
    total = editor.add("Squeeze", [longest, editor.integers([0])], f"{path}/total")
    return _SharedInputs(
        last_positions=editor.cast(last, ir.DataType.INT32),
        longest=editor.cast(total, ir.DataType.INT32),
        caches={
            name: _add_rotary_cache(editor, name, cache, longest)
            for name, cache in decoder.rotary_caches.items()
        },
    )


def _add_rotary_cache(
    editor: GraphEditor, name: str, cache: RotaryCache, longest: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """Add cosines and sines; with LongRoPE, select the short or long ones by the longest length."""
    cos = editor.initializer(f"{name}.cos_cache", cache.cos)
    sin = editor.initializer(f"{name}.sin_cache", cache.sin)
    if not cache.original_length:
        return cos, sin
    # Slice the rows in use: an `If` between two whole caches would copy one of them for each token.
    path = f"/model/{name}"
    limit = editor.integers([cache.original_length])
    is_beyond = editor.add("Greater", [longest, limit], f"{path}/beyond")
    start = editor.add("Where", [is_beyond, limit, editor.integers([0])], f"{path}/start")
    end = editor.add("Add", [start, longest], f"{path}/end")
    rows = [
        editor.add("Slice", [table, start, end, editor.integers([0])], f"{path}/{part}")
        for part, table in (("cos", cos), ("sin", sin))
    ]
    return rows[0], rows[1]


def _replace(
    editor: GraphEditor,
    layer: int,
    attention: AttentionSpec,
    boundary: _Boundary,
    shared: _SharedInputs,
) -> None:
    """Put one GroupQueryAttention between the projections and o_proj of a layer."""
    prefix = node_prefix(attention.path)
    query, key = boundary.query, boundary.key
    if key is not None:
        query = _merge_heads(editor, query, attention, attention.heads, f"{prefix}query")
        key = _merge_heads(editor, key, attention, attention.kv_heads, f"{prefix}key")
    cos, sin = shared.caches[attention.rotary] if attention.rotary else (None, None)
    output, present_key, present_value = editor.add_multi_output(
        "GroupQueryAttention",
        [
            query,
            key,
            boundary.value,
            editor.input(f"past_key_values.{layer}.key"),
            editor.input(f"past_key_values.{layer}.value"),
            shared.last_positions,
            shared.longest,
            cos,
            sin,
        ],
        f"{prefix}GroupQueryAttention",
        3,
        domain=CONTRIB,
        num_heads=attention.heads,
        kv_num_heads=attention.kv_heads,
        scale=float(attention.scale),
        softcap=float(attention.softcap),
        local_window_size=attention.window or -1,
        do_rotary=int(attention.rotary is not None),
        **({"rotary_interleaved": 1} if attention.interleaved else {}),
    )
    editor.replace(boundary.output, output)
    editor.replace(editor.output(f"present.{layer}.key"), present_key)
    editor.replace(editor.output(f"present.{layer}.value"), present_value)


def _merge_heads(
    editor: GraphEditor, value: ir.Value, attention: AttentionSpec, heads: int, name: str
) -> ir.Value:
    """Return [batch, sequence, heads * head size] for a query or key that a norm left per head."""
    producer = value.producer()
    if producer is not None and producer.op_type in ("MatMul", "Add"):
        return value
    if attention.heads_first:
        value = editor.add("Transpose", [value], f"{name}/transposed", perm=[0, 2, 1, 3])
    shape = editor.integers([0, 0, heads * attention.head_size])
    return editor.add("Reshape", [value, shape], name)
