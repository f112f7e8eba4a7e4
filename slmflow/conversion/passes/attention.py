"""Attention to one GroupQueryAttention per layer: rotation, mask and KV cache in the kernel.

What lies between the projections' results and the output projection is cut out by the names of
the nodes, which carry the module's path. The kernel updates the cache in place and takes lengths
from the attention mask, so `position_ids` goes away and padding must be on the right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from slmflow.conversion.decoder import Attention, Decoder, Rotary
from slmflow.conversion.passes.graph import CONTRIB, Builder, Matched, by_scope, finish

_PARTS = ("qkv_proj", "q_proj", "k_proj", "v_proj", "q_norm", "k_norm", "o_proj")


@dataclass(frozen=True)
class _Cut:
    """Where one attention begins and ends: results of the projections, and what o_proj reads.

    `key` and `value` are None where `query` is all three, packed.
    """

    query: ir.Value
    key: ir.Value | None
    value: ir.Value | None
    output: ir.Value


@dataclass(frozen=True)
class _Shared:
    """Values that all layers read: length of each row less one, longest length, rotary caches."""

    lengths: ir.Value
    total: ir.Value
    caches: Mapping[str, tuple[ir.Value, ir.Value]]


def fuse(model: ir.Model, decoder: Decoder) -> Matched:
    """Replace the attention of every layer, or of none: they share the form of the KV cache."""
    cuts = _cuts(model.graph, decoder.attentions)
    if reason := _misfit(decoder, cuts):
        return Matched("attention", 0, decoder.layers, reason)
    build = Builder(model)
    shared = _share(build, decoder)
    for index, (attention, cut) in enumerate(zip(decoder.attentions, cuts, strict=True)):
        if cut is not None:
            _replace(build, index, attention, cut, shared)
    finish(model)
    return Matched("attention", decoder.layers, decoder.layers)


def _misfit(decoder: Decoder, cuts: Sequence[_Cut | None]) -> str:
    """Return why attention stays as it is, or nothing."""
    if decoder.unknown:
        return f"{', '.join(sorted(decoder.unknown))} is not known"
    if len(decoder.attentions) != decoder.layers:
        return f"{len(decoder.attentions)} attention modules in {decoder.layers} layers"
    for attention, cut in zip(decoder.attentions, cuts, strict=True):
        if cut is None:
            return f"{attention.path} has not the projections of its class"
        if attention.rotary and attention.head_size % 16:
            return f"the kernel rotates heads of 16, 32, 48, ..., not of {attention.head_size}"
    for rotary in decoder.rotaries.values():
        if (angles := rotary.cos.shape[1]) % 8:
            return f"the kernel rotates by 8, 16, 24, ... angles, not by {angles}"
    return ""


def _cuts(graph: ir.Graph, attentions: Sequence[Attention]) -> list[_Cut | None]:
    nodes = by_scope(graph, (f"{a.path}.{part}" for a in attentions for part in _PARTS))
    return [_cut({part: nodes[f"{a.path}.{part}"] for part in _PARTS}) for a in attentions]


def _cut(parts: Mapping[str, list[ir.Node]]) -> _Cut | None:
    # A module's result is what its last node gives: with a bias, not the MatMul.
    results = {name: nodes[-1].outputs[0] for name, nodes in parts.items() if nodes}
    matmul = next((node for node in parts["o_proj"] if node.op_type == "MatMul"), None)
    if matmul is None or (output := matmul.inputs[0]) is None:
        return None
    if results.keys() == {"qkv_proj", "o_proj"}:
        return _Cut(results["qkv_proj"], None, None, output)
    if results.keys() - {"q_norm", "k_norm"} == {"q_proj", "k_proj", "v_proj", "o_proj"}:
        query = results.get("q_norm", results["q_proj"])
        key = results.get("k_norm", results["k_proj"])
        return _Cut(query, key, results["v_proj"], output)
    return None


def _share(build: Builder, decoder: Decoder) -> _Shared:
    mask = build.given("attention_mask")
    path = "/model/attention"
    each = build.add("ReduceSum", [mask, build.integers([1])], f"{path}/lengths", keepdims=0)
    last = build.add("Sub", [each, build.integers([1])], f"{path}/last")
    longest = build.add("Shape", [mask], f"{path}/longest", start=1, end=2)
    total = build.add("Squeeze", [longest, build.integers([0])], f"{path}/total")
    return _Shared(
        lengths=build.cast(last, ir.DataType.INT32),
        total=build.cast(total, ir.DataType.INT32),
        caches={
            name: _caches(build, name, rotary, longest) for name, rotary in decoder.rotaries.items()
        },
    )


def _caches(
    build: Builder, name: str, rotary: Rotary, longest: ir.Value
) -> tuple[ir.Value, ir.Value]:
    cos = build.initializer(f"{name}.cos_cache", rotary.cos)
    sin = build.initializer(f"{name}.sin_cache", rotary.sin)
    if not rotary.switch:
        return cos, sin
    # The rows in use: an `If` over two whole caches would copy one of them for every token.
    path = f"/model/{name}"
    border = build.integers([rotary.switch])
    beyond = build.add("Greater", [longest, border], f"{path}/beyond")
    start = build.add("Where", [beyond, border, build.integers([0])], f"{path}/start")
    end = build.add("Add", [start, longest], f"{path}/end")
    rows = [
        build.add("Slice", [cache, start, end, build.integers([0])], f"{path}/{part}")
        for part, cache in (("cos", cos), ("sin", sin))
    ]
    return rows[0], rows[1]


def _replace(build: Builder, index: int, attention: Attention, cut: _Cut, shared: _Shared) -> None:
    """Put one GroupQueryAttention between the projections' results and o_proj."""
    path = build.scope(attention.path)
    query, key = cut.query, cut.key
    if key is not None:
        query = _joined(build, query, attention, attention.heads, f"{path}query")
        key = _joined(build, key, attention, attention.kv_heads, f"{path}key")
    cos, sin = shared.caches[attention.rotary] if attention.rotary else (None, None)
    output, present_key, present_value = build.add_multiple(
        "GroupQueryAttention",
        [
            query,
            key,
            cut.value,
            build.given(f"past_key_values.{index}.key"),
            build.given(f"past_key_values.{index}.value"),
            shared.lengths,
            shared.total,
            cos,
            sin,
        ],
        f"{path}GroupQueryAttention",
        3,
        domain=CONTRIB,
        num_heads=attention.heads,
        kv_num_heads=attention.kv_heads,
        scale=float(attention.scale),
        softcap=float(attention.softcap),
        local_window_size=attention.window or -1,
        do_rotary=int(attention.rotary is not None),
    )
    build.replace(cut.output, output)
    build.replace(build.given_back(f"present.{index}.key"), present_key)
    build.replace(build.given_back(f"present.{index}.value"), present_value)


def _joined(
    build: Builder, value: ir.Value, attention: Attention, heads: int, name: str
) -> ir.Value:
    """Return [batch, sequence, heads * head size] of heads that a norm of theirs leaves apart."""
    producer = value.producer()
    if producer is not None and producer.op_type in ("MatMul", "Add"):
        return value
    if attention.heads_first:
        value = build.add("Transpose", [value], f"{name}/transposed", perm=[0, 2, 1, 3])
    shape = build.integers([0, 0, heads * attention.head_size])
    return build.add("Reshape", [value, shape], name)
