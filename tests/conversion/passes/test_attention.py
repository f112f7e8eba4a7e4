"""The attention pass alone: what it cuts out, with which attributes, and what it leaves alone."""

import dataclasses

import numpy as np
import onnx_ir as ir
import pytest
import torch
from transformers import AutoModelForCausalLM

from slmflow.conversion.passes import attention
from slmflow.conversion.passes.graph import Matched
from tests.conversion.architectures import FUSED, WINDOW
from tests.conversion.passes import traced

HALF = 16**-0.5
# Window, scale and soft cap of both layers; whether positions are rotated in each.
EXPECTED = {
    "phi3": ([WINDOW, WINDOW], HALF, 0, [1, 1]),
    "phi4_mini": ([-1, -1], 64**-0.5, 0, [1, 1]),
    "llama": ([-1, -1], HALF, 0, [1, 1]),
    "qwen2": ([-1, WINDOW], HALF, 0, [1, 1]),
    "qwen3": ([-1, -1], 32**-0.5, 0, [1, 1]),
    "mistral": ([WINDOW, WINDOW], HALF, 0, [1, 1]),
    "smollm3": ([-1, -1], HALF, 0, [1, 0]),
    "gemma": ([-1, -1], 32**-0.5, 0, [1, 1]),
    "gemma2": ([WINDOW, -1], 24**-0.5, 5, [1, 1]),
    "gemma3": ([WINDOW, -1], 24**-0.5, 0, [1, 1]),
}


def _kernels(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "GroupQueryAttention"]


@pytest.mark.parametrize("name", EXPECTED)
def test_one_kernel_for_each_layer(name: str) -> None:
    model, known = traced.graph(name)

    matched = attention.fuse(model, known)

    windows, scale, softcap, rotates = EXPECTED[name]
    kernels, config = _kernels(model), FUSED[name]
    assert matched == Matched("attention", 2, 2)
    assert [k.attributes["local_window_size"].as_int() for k in kernels] == windows
    assert [k.attributes["do_rotary"].as_int() for k in kernels] == rotates
    for kernel in kernels:
        assert kernel.attributes["num_heads"].as_int() == config.num_attention_heads
        assert kernel.attributes["kv_num_heads"].as_int() == config.num_key_value_heads
        assert kernel.attributes["scale"].as_float() == pytest.approx(scale)
        assert kernel.attributes["softcap"].as_float() == softcap
    assert not traced.operators(model)["Softmax"]
    assert "position_ids" not in [value.name for value in model.graph.inputs]


def test_layers_rotate_by_their_own_caches() -> None:
    """Gemma 3's local layers and its global ones have different angles."""
    model, known = traced.graph("gemma3")

    attention.fuse(model, known)

    names = [kernel.inputs[7].name for kernel in _kernels(model)]
    assert names == ["rotary_emb_local.cos_cache", "rotary_emb.cos_cache"]


@pytest.mark.parametrize("name", ["llama", "phi4_mini"])
def test_caches_are_the_models_own(name: str) -> None:
    model, known = traced.graph(name)
    config = FUSED[name]
    embedding = AutoModelForCausalLM.from_config(config).model.rotary_emb

    attention.fuse(model, known)

    found = model.graph.initializers["rotary_emb.cos_cache"].const_value.numpy()
    longest = config.max_position_embeddings
    short = getattr(config, "original_max_position_embeddings", longest)
    lengths = [short] if name == "llama" else [short, longest]
    with torch.no_grad():
        made = [embedding(torch.zeros(1), torch.arange(n)[None])[0][0].numpy() for n in lengths]
    expected = np.concatenate(made)
    np.testing.assert_array_equal(found, expected[:, : expected.shape[1] // 2])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("granite", "GraniteAttention is not known"),
        ("phi", "PhiAttention is not known"),
        ("llama_dynamic", "model.rotary_emb of type dynamic is not known"),
        ("llama_odd_heads", "the kernel rotates heads of 16, 32, 48, ..., not of 24"),
    ],
)
def test_the_unknown_is_left_alone(name: str, reason: str) -> None:
    model, known = traced.graph(name)
    before = traced.operators(model)

    matched = attention.fuse(model, known)

    assert matched == Matched("attention", 0, 2, reason)
    assert traced.operators(model) == before


def test_odd_angles_are_left_alone() -> None:
    """A rotary size of 12: the kernel takes multiples of 16 only."""
    model, known = traced.graph("llama")
    rotary = known.rotaries["rotary_emb"]
    odd = dataclasses.replace(rotary, cos=rotary.cos[:, :6], sin=rotary.sin[:, :6])

    matched = attention.fuse(model, dataclasses.replace(known, rotaries={"rotary_emb": odd}))

    reason = "the kernel rotates by 8, 16, 24, ... angles, not by 6"
    assert matched == Matched("attention", 0, 2, reason)


def test_one_layer_without_its_projections_leaves_all_alone() -> None:
    """Layers share the form of the KV cache, so it is all of them or none."""
    model, known = traced.graph("llama")
    for node in model.graph:
        node.name = (node.name or "").replace("layers.1/self_attn/k_proj", "layers.1/self_attn/key")

    matched = attention.fuse(model, known)

    reason = "model.layers.1.self_attn has not the projections of its class"
    assert matched == Matched("attention", 0, 2, reason)
    assert not _kernels(model)
