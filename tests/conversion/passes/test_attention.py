"""The attention pass: the kernels it adds, their attributes, and the models it leaves alone."""

import dataclasses

import numpy as np
import onnx_ir as ir
import pytest
import torch
from transformers import AutoModelForCausalLM

from slmflow.conversion.passes import attention
from slmflow.conversion.passes.graph import PassReport
from tests.conversion.architectures import FUSED, WINDOW
from tests.conversion.passes import traced_graphs

SCALE_16 = 16**-0.5
# Window of each layer, scale, soft cap, and whether each layer has a rotary embedding.
EXPECTED = {
    "phi3": ([WINDOW, WINDOW], SCALE_16, 0, [1, 1]),
    "phi4_mini": ([-1, -1], 64**-0.5, 0, [1, 1]),
    "llama": ([-1, -1], SCALE_16, 0, [1, 1]),
    "qwen2": ([-1, WINDOW], SCALE_16, 0, [1, 1]),
    "qwen3": ([-1, -1], 32**-0.5, 0, [1, 1]),
    "mistral": ([WINDOW, WINDOW], SCALE_16, 0, [1, 1]),
    "smollm3": ([-1, -1], SCALE_16, 0, [1, 0]),
    "gemma": ([-1, -1], 32**-0.5, 0, [1, 1]),
    "gemma2": ([WINDOW, -1], 24**-0.5, 5, [1, 1]),
    "gemma3": ([WINDOW, -1], 24**-0.5, 0, [1, 1]),
}


def _kernels(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "GroupQueryAttention"]


@pytest.mark.parametrize("name", EXPECTED)
def test_every_layer_has_one_kernel(name: str) -> None:
    model, spec = traced_graphs.exported(name)

    report = attention.fuse(model, spec)

    windows, scale, softcap, has_rotary = EXPECTED[name]
    kernels, config = _kernels(model), FUSED[name]
    assert report == PassReport("attention", 2, 2)
    assert [k.attributes["local_window_size"].as_int() for k in kernels] == windows
    assert [k.attributes["do_rotary"].as_int() for k in kernels] == has_rotary
    for kernel in kernels:
        assert kernel.attributes["num_heads"].as_int() == config.num_attention_heads
        assert kernel.attributes["kv_num_heads"].as_int() == config.num_key_value_heads
        assert kernel.attributes["scale"].as_float() == pytest.approx(scale)
        assert kernel.attributes["softcap"].as_float() == softcap
    assert not traced_graphs.count_operators(model)["Softmax"]
    assert "position_ids" not in [value.name for value in model.graph.inputs]


def test_layers_use_their_own_rotary_cache() -> None:
    """Gemma 3's local and global layers have different angles."""
    model, spec = traced_graphs.exported("gemma3")

    attention.fuse(model, spec)

    names = [kernel.inputs[7].name for kernel in _kernels(model)]
    assert names == [
        "rotary_emb.sliding_attention.cos_cache",
        "rotary_emb.full_attention.cos_cache",
    ]


@pytest.mark.parametrize("name", ["llama", "phi4_mini"])
def test_rotary_cache_equals_the_models_embedding(name: str) -> None:
    model, spec = traced_graphs.exported(name)
    config = FUSED[name]
    embedding = AutoModelForCausalLM.from_config(config).model.rotary_emb

    attention.fuse(model, spec)

    cache = model.graph.initializers["rotary_emb.cos_cache"].const_value.numpy()
    longest = config.max_position_embeddings
    short = getattr(config, "original_max_position_embeddings", longest)
    lengths = [short] if name == "llama" else [short, longest]
    with torch.no_grad():
        cosines = [embedding(torch.zeros(1), torch.arange(n)[None])[0][0].numpy() for n in lengths]
    expected = np.concatenate(cosines)
    np.testing.assert_array_equal(cache, expected[:, : expected.shape[1] // 2])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hunyuan", "no support for HunYuanDenseV1Attention"),
        ("olmo_clipped", "no support for OlmoAttention with clip_qkv"),
        ("llama_dynamic", "no support for a rotary embedding of type dynamic"),
        ("llama_odd_heads", "head size 24 is not a multiple of 16"),
    ],
)
def test_unsupported_attention_is_left_alone(name: str, reason: str) -> None:
    model, spec = traced_graphs.exported(name)
    before = traced_graphs.count_operators(model)

    report = attention.fuse(model, spec)

    assert report == PassReport("attention", 0, 2, reason)
    assert traced_graphs.count_operators(model) == before


def test_unsupported_rotary_size_is_left_alone() -> None:
    model, spec = traced_graphs.exported("llama")
    cache = spec.rotary_caches["rotary_emb"]
    narrow = dataclasses.replace(cache, cos=cache.cos[:, :6], sin=cache.sin[:, :6])

    report = attention.fuse(model, dataclasses.replace(spec, rotary_caches={"rotary_emb": narrow}))

    reason = "rotary size 12 is not a multiple of 16"
    assert report == PassReport("attention", 0, 2, reason)


def test_missing_projection_leaves_all_layers_alone() -> None:
    """Layers share the layout of the KV cache, so either all of them are fused or none."""
    model, spec = traced_graphs.exported("llama")
    for node in model.graph:
        node.name = (node.name or "").replace("layers.1/self_attn/k_proj", "layers.1/self_attn/key")

    report = attention.fuse(model, spec)

    reason = "model.layers.1.self_attn lacks the projections of its class"
    assert report == PassReport("attention", 0, 2, reason)
    assert not _kernels(model)
