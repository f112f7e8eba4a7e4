"""Graphs of the GenAI model builder against transformers, and the models it is not used for."""

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from transformers import (
    Ernie4_5Config,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GptOssConfig,
    GraniteConfig,
    GraniteMoeHybridConfig,
    HunYuanDenseV1Config,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    NemotronConfig,
    Olmo3Config,
    OlmoConfig,
    Phi3Config,
    PhiConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5TextConfig,
    Qwen3Config,
    SmolLM3Config,
)

from slmflow.config.schema.target import ExporterName
from slmflow.conversion import builder_support, genai_builder, reference_model
from slmflow.conversion.onnx_files import GRAPH_FILE
from slmflow.conversion.proof.graph_runtime import Runtime
from slmflow.errors import UserError
from slmflow.runtime.generation.genai import GenaiEngine
from tests.conversion import architectures
from tests.conversion.architectures import ALTERNATING, LLAMA3, SIZES, WINDOW, edited_bundle
from tests.conversion.conversions import convert, target
from tests.runtime.active_requests import active_request

# Shorter and longer than the sliding windows; generation crosses them.
LENGTHS = (5, 23, 40, 100)
TOKENS = 48

TIED = {"tie_word_embeddings": True}
HYBRID = {"layer_types": ["conv", "full_attention"]}
ATTENTION_ONLY = {"layer_types": ["full_attention"] * 2, "num_local_experts": 0}
LINEAR_ATTENTION = {
    "head_dim": 64,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
MULTIMODAL_ROPE = {
    "rope_type": "default",
    "rope_theta": 10_000.0,
    "partial_rotary_factor": 0.5,
    "mrope_section": [6, 5, 5],
    "mrope_interleaved": True,
}
WINDOWED = {"sliding_window": WINDOW, "layer_types": ALTERNATING}

# A config for each architecture that the builder is used for, with what sets it apart.
CONFIGS: Mapping[str, Callable[..., PretrainedConfig]] = {
    "Ernie4_5ForCausalLM": functools.partial(Ernie4_5Config, head_dim=32, use_bias=True),
    "Gemma2ForCausalLM": functools.partial(
        Gemma2Config,
        **TIED | WINDOWED,
        head_dim=32,
        query_pre_attn_scalar=24,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=8.0,
    ),
    "Gemma3ForCausalLM": functools.partial(
        Gemma3TextConfig, **TIED | WINDOWED, head_dim=32, query_pre_attn_scalar=24
    ),
    "GemmaForCausalLM": functools.partial(GemmaConfig, **TIED, head_dim=32),
    "GptOssForCausalLM": functools.partial(
        GptOssConfig,
        **WINDOWED | {"intermediate_size": 64, "max_position_embeddings": 2**17},
        head_dim=64,
        num_local_experts=4,
        num_experts_per_tok=2,
    ),
    "GraniteForCausalLM": functools.partial(
        GraniteConfig,
        attention_multiplier=0.2,
        embedding_multiplier=4.0,
        logits_scaling=2.0,
        residual_multiplier=0.5,
    ),
    "GraniteMoeHybridForCausalLM": functools.partial(
        GraniteMoeHybridConfig,
        **ATTENTION_ONLY,
        shared_intermediate_size=96,
        position_embedding_type="rope",
        attention_multiplier=0.2,
    ),
    "HunYuanDenseV1ForCausalLM": functools.partial(HunYuanDenseV1Config, head_dim=32),
    "Lfm2ForCausalLM": functools.partial(
        Lfm2Config, **TIED | HYBRID, block_auto_adjust_ff_dim=False
    ),
    "LlamaForCausalLM": functools.partial(LlamaConfig, **TIED, attention_bias=True, mlp_bias=True),
    "MistralForCausalLM": functools.partial(MistralConfig, sliding_window=WINDOW),
    "NemotronForCausalLM": functools.partial(NemotronConfig, head_dim=64),
    "OlmoForCausalLM": OlmoConfig,
    "Phi3ForCausalLM": functools.partial(
        Phi3Config,
        num_key_value_heads=4,
        sliding_window=WINDOW,
        original_max_position_embeddings=128,
    ),
    "PhiForCausalLM": functools.partial(
        PhiConfig, hidden_size=128, num_key_value_heads=4, partial_rotary_factor=0.5
    ),
    "Qwen2ForCausalLM": functools.partial(
        Qwen2Config, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
    "Qwen3ForCausalLM": functools.partial(Qwen3Config, head_dim=32),
    "Qwen3_5ForCausalLM": functools.partial(Qwen3_5TextConfig, **LINEAR_ATTENTION),
    "SmolLM3ForCausalLM": functools.partial(SmolLM3Config, no_rope_layers=[1, 0]),
}
ROPE_PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0, "alpha": 1000.0},
    "llama3": LLAMA3,
    "longrope": architectures.longrope(16)
    | {"rope_type": "longrope", "original_max_position_embeddings": 128},
    "yarn": {
        "rope_type": "yarn",
        "factor": 32.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "truncate": False,
        "original_max_position_embeddings": 4096,
    },
}
# The KV cache of these is joined by states, which padding would change.
WITH_STATES = ("Lfm2ForCausalLM", "Qwen3_5ForCausalLM")

# The other combinations run in `make test-long`.
_NOT_LONG = (
    *("Gemma3ForCausalLM-default", "Lfm2ForCausalLM-default", "OlmoForCausalLM-default"),
    *("NemotronForCausalLM-llama3", "Phi3ForCausalLM-default", "Phi3ForCausalLM-longrope"),
    *("Qwen3_5ForCausalLM-default", "SmolLM3ForCausalLM-default"),
)


def _config(architecture: str, rope_type: str) -> PretrainedConfig:
    make = CONFIGS[architecture]
    fields = dict(make.keywords) if isinstance(make, functools.partial) else {}
    kind = make.func if isinstance(make, functools.partial) else make
    parameters = dict(ROPE_PARAMETERS[rope_type]) | {"rope_theta": 10_000.0}
    if architecture == "Qwen3_5ForCausalLM":
        parameters = MULTIMODAL_ROPE
    if architecture != "Gemma3ForCausalLM":  # its default differs by layer type
        fields["rope_parameters"] = parameters
    return kind(**SIZES | fields)


@dataclass(frozen=True)
class Built:
    """The builder's graph of a random model, and the model in transformers."""

    runtime: Runtime
    reference: Any


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Built]:
    """Return a function that builds the graph of an architecture once for all tests."""

    @functools.cache
    def build(architecture: str, rope_type: str, target_name: str = "cpu_fp32") -> Built:
        folder = tmp_path_factory.mktemp(architecture)
        config = _config(architecture, rope_type)
        weights = architectures.save_random_model(config, folder / "weights")
        genai_builder.write_graph(weights, folder / "onnx", target(target_name))
        return Built(Runtime(folder / "onnx", GRAPH_FILE), architectures.load(weights))

    return build


COMBINATIONS = [
    pytest.param(
        architecture,
        rope_type,
        id=f"{architecture}-{rope_type}",
        marks=() if f"{architecture}-{rope_type}" in _NOT_LONG else pytest.mark.long,
    )
    for architecture, rope_types in builder_support.ROPE_TYPES.items()
    for rope_type in sorted(rope_types)
]


@pytest.mark.parametrize(("architecture", "rope_type"), COMBINATIONS)
def test_logits_and_tokens_equal_transformers(
    architecture: str, rope_type: str, built: Callable[..., Built]
) -> None:
    model = built(architecture, rope_type)
    rows = [architectures.prompt(length) for length in LENGTHS]
    expected = [architectures.logits(model.reference, row) for row in rows]
    # In a batch the longest text decides which factors of LongRoPE all of them get.
    short = rows[:3] if rope_type == "longrope" else rows
    generated = [architectures.greedy(model.reference, row, TOKENS) for row in short]

    for row, reference in zip(rows, expected, strict=True):
        np.testing.assert_allclose(model.runtime.logits(row), reference, atol=1e-3, rtol=0)
        assert np.ptp(reference) > 1  # or the tolerance would hide another computation
    assert [model.runtime.greedy([row], TOKENS)[0] for row in short] == generated
    if architecture in WITH_STATES:
        short = [architectures.prompt(30, seed) for seed in range(3)]
        generated = [architectures.greedy(model.reference, row, TOKENS) for row in short]
    assert model.runtime.greedy(short, TOKENS) == generated


def test_longrope_beyond_the_original_length(built: Callable[..., Built]) -> None:
    model = built("Phi3ForCausalLM", "longrope")
    row = architectures.prompt(140)

    logits = model.runtime.logits(row)

    expected = architectures.logits(model.reference, row)
    np.testing.assert_allclose(logits, expected, atol=1e-3, rtol=0)


def test_every_supported_architecture_has_a_config() -> None:
    assert CONFIGS.keys() == builder_support.ROPE_TYPES.keys()
    for name, rope_types in builder_support.ROPE_TYPES.items():
        assert type(_model(_config(name, min(rope_types)))).__name__ == name


@pytest.mark.parametrize("architecture", ["Qwen3ForCausalLM", "Gemma3ForCausalLM"])
def test_gpu_graph_is_compared_on_a_cpu(architecture: str, built: Callable[..., Built]) -> None:
    model = built(architecture, "default", "cuda_fp16")
    row = architectures.prompt(40)

    logits = model.runtime.logits(row)

    expected = architectures.logits(model.reference, row)
    np.testing.assert_allclose(logits, expected, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("architecture", "fields", "message"),
    [
        ("LlamaForCausalLM", {"rope_parameters": "linear"}, "rotary embedding of type linear"),
        ("LlamaForCausalLM", {"rope_parameters": "yarn"}, "rotary embedding of type yarn"),
        ("LlamaForCausalLM", {"head_dim": 24}, "heads of size 24"),
        ("Qwen3ForCausalLM", {"rope_parameters": "yarn"}, "rotary embedding of type yarn"),
        ("PhiForCausalLM", {"hidden_size": 64}, "parts of heads of size 8"),
        ("PhiForCausalLM", {"qk_layernorm": True}, "qk_layernorm=True"),
        ("NemotronForCausalLM", {"mlp_bias": True}, "mlp_bias=True"),
        ("OlmoForCausalLM", {"clip_qkv": 8.0}, "clip_qkv=8.0"),
        ("Lfm2ForCausalLM", {"conv_bias": True}, "conv_bias=True"),
        ("Gemma3ForCausalLM", {"attn_logit_softcapping": 5.0}, "attn_logit_softcapping=5.0"),
        ("GraniteMoeHybridForCausalLM", {"num_local_experts": 4}, "num_local_experts=4"),
        (
            "GraniteMoeHybridForCausalLM",
            {"position_embedding_type": "nope"},
            "position_embedding_type=nope",
        ),
    ],
)
def test_settings_that_the_builder_ignores_are_rejected(
    architecture: str, fields: dict[str, Any], message: str
) -> None:
    if name := fields.get("rope_parameters"):
        fields = {"rope_parameters": dict(ROPE_PARAMETERS[name]) | {"rope_theta": 10_000.0}}
    config = _config(architecture, "default")
    model = _model(type(config)(**config.to_dict() | fields))

    with pytest.raises(UserError, match=f"does not support {architecture} with .*{message}"):
        builder_support.check_settings(model)


def _model(config: PretrainedConfig) -> Any:
    return reference_model.build_without_weights(config)


@pytest.mark.parametrize(
    ("model_type", "architecture", "reason"),
    [
        ("gemma3", "Gemma3ForConditionalGeneration", "it is multimodal"),
        ("mistral3", "Mistral3ForConditionalGeneration", "not a causal language model"),
        ("ministral3", "Ministral3ForCausalLM", "does not scale queries.* Use exporter=optimum"),
        ("gemma4_text", "Gemma4ForCausalLM", "no per-layer embeddings.* Use another model"),
        ("olmo2", "Olmo2ForCausalLM", "no code for it. Use exporter=optimum"),
        ("lfm2_moe", "Lfm2MoeForCausalLM", "experts that are stored one by one"),
        ("llama", "LlamaForSequenceClassification", "not a causal language model"),
    ],
)
def test_architectures_without_a_right_graph_are_rejected_first(
    tmp_path: Path, model_type: str, architecture: str, reason: str
) -> None:
    """The weights are not a safetensors file: reading them would fail with another message."""
    fields = {"model_type": model_type, "architectures": [architecture]}
    weights = edited_bundle(tmp_path / "weights", **fields)
    (weights / "model.safetensors").write_bytes(b"")

    with pytest.raises(UserError, match=rf"does not support {architecture}.*{reason}"):
        convert(weights, tmp_path / "onnx", "cpu_fp32", exporter=ExporterName.builder)


def test_text_model_of_multimodal_qwen3_5_converts(tmp_path: Path) -> None:
    text = _config("Qwen3_5ForCausalLM", "default")
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2}
    vision |= {"out_hidden_size": 64, "num_position_embeddings": 16}
    config = Qwen3_5Config(text_config=text.to_dict(), vision_config=vision)
    weights = architectures.save_random_model(text, tmp_path / "weights")
    Qwen3_5ForConditionalGeneration(config).save_pretrained(weights)

    record = convert(weights, tmp_path / "onnx", "cpu_fp32", exporter=ExporterName.builder)

    assert "model.language_model.norm.weight" in _tensor_names(weights)
    assert record.parity.max_abs_diff < 1e-3
    assert record.parity.top1_agreement == 1


def _tensor_names(weights: Path) -> set[str]:
    with safe_open(weights / "model.safetensors", framework="numpy") as file:
        return set(file.keys())


def test_only_equal_lengths_are_batched_with_states(tmp_path: Path) -> None:
    config = _config("Lfm2ForCausalLM", "default")
    weights = architectures.save_random_model(config, tmp_path / "weights")
    convert(weights, tmp_path / "onnx", "cpu_fp32", exporter=ExporterName.builder)
    engine = GenaiEngine(tmp_path / "onnx")

    assert engine.can_batch([active_request(7, 4), active_request(7, 9)])
    assert not engine.can_batch([active_request(7, 4), active_request(8, 4)])


@pytest.mark.parametrize(
    ("config", "runtime_type"),
    [
        (Olmo3Config(**SIZES, sliding_window=WINDOW, layer_types=ALTERNATING), "decoder"),
        (_config("Gemma3ForCausalLM", "default"), "gemma3_text"),
        (_config("Phi3ForCausalLM", "longrope"), "phi3"),
        (_config("Phi3ForCausalLM", "default"), "decoder"),
        (_config("MistralForCausalLM", "default"), "mistral"),
        (LlamaConfig(**SIZES, rope_parameters=dict(ROPE_PARAMETERS["yarn"])), "llama"),
        (Qwen3Config(**SIZES, rope_parameters=dict(ROPE_PARAMETERS["llama3"])), "qwen3"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.model_type,
)
def test_config_for_optimums_graph(tmp_path: Path, config: Any, runtime_type: str) -> None:
    weights = architectures.save_random_model(config, tmp_path / "weights")

    genai_builder.write_config(weights, tmp_path / "onnx", target("cpu_fp32"))

    written = json.loads((tmp_path / "onnx" / "genai_config.json").read_text())
    assert written["model"]["type"] == runtime_type
    assert written["model"]["context_length"] == config.max_position_embeddings
    assert "sliding_window" not in written["model"]["decoder"]
    assert written["search"]["past_present_share_buffer"] is False
