"""Two-layer models of random weights, one per architecture, and their output by transformers."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoModelForCausalLM,
    Ernie4_5Config,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GraniteConfig,
    HunYuanDenseV1Config,
    LlamaConfig,
    Ministral3Config,
    MistralConfig,
    NemotronConfig,
    Olmo2Config,
    Olmo3Config,
    OlmoConfig,
    Phi3Config,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from slmflow.paths import PROJECT
from tests.fixtures.bundled_model import Reference

BUNDLED = PROJECT / "bundled" / "tiny_phi3"
END = 1013  # the end token of the bundled tokenizer, which is its padding token too

WINDOW = 24
SIZES = {
    "vocab_size": 1024,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": END,
    "pad_token_id": END,
}
ALTERNATING = ["sliding_attention", "full_attention"]


def longrope(size: int) -> dict[str, Any]:
    """Return LongRoPE factors for a rotary size; the short and long ones differ clearly."""
    steps = torch.linspace(1, 2, size // 2).tolist()
    return {"type": "longrope", "short_factor": steps, "long_factor": [4 * s for s in steps]}


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}

# All attention of these is fused, and all RMS norms.
FUSED = {
    "phi3": Phi3Config(
        **SIZES | {"num_key_value_heads": 4},
        original_max_position_embeddings=512,
        sliding_window=WINDOW,
    ),
    "phi3_longrope": Phi3Config(
        **SIZES | {"num_key_value_heads": 4, "max_position_embeddings": 256},
        original_max_position_embeddings=128,
        rope_scaling=longrope(16),
    ),
    "phi4_mini": Phi3Config(
        **SIZES
        | {"hidden_size": 256, "initializer_range": 0.1, "tie_word_embeddings": True}
        | {"max_position_embeddings": 256},
        original_max_position_embeddings=128,
        partial_rotary_factor=0.75,
        rope_scaling=longrope(48),
    ),
    "llama": LlamaConfig(**SIZES | {"tie_word_embeddings": True}, rope_scaling=LLAMA3),
    "qwen2": Qwen2Config(
        **SIZES, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
    "qwen3": Qwen3Config(**SIZES, head_dim=32),
    "mistral": MistralConfig(**SIZES, sliding_window=WINDOW),
    "smollm3": SmolLM3Config(**SIZES, no_rope_layers=[1, 0]),
    "gemma": GemmaConfig(**SIZES | {"tie_word_embeddings": True}, head_dim=32),
    "gemma2": Gemma2Config(
        **SIZES | {"tie_word_embeddings": True},
        head_dim=32,
        query_pre_attn_scalar=24,
        sliding_window=WINDOW,
        layer_types=ALTERNATING,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=8.0,
    ),
    "gemma3": Gemma3TextConfig(
        **SIZES | {"tie_word_embeddings": True},
        head_dim=32,
        query_pre_attn_scalar=24,
        sliding_window=WINDOW,
        layer_types=ALTERNATING,
        rope_scaling={"rope_type": "linear", "factor": 4.0},
    ),
    "granite": GraniteConfig(
        **SIZES,
        attention_multiplier=0.2,
        embedding_multiplier=4.0,
        logits_scaling=2.0,
        residual_multiplier=0.5,
    ),
    "olmo": OlmoConfig(**SIZES),
    "olmo2": Olmo2Config(**SIZES),
    "olmo3": Olmo3Config(**SIZES, sliding_window=WINDOW, layer_types=ALTERNATING),
    "phi": PhiConfig(**SIZES | {"num_key_value_heads": 4, "hidden_size": 128}),
    "phi_norms": PhiConfig(**SIZES | {"hidden_size": 128}, qk_layernorm=True),
    "nemotron": NemotronConfig(**SIZES | {"hidden_size": 128}),
    "ernie4_5": Ernie4_5Config(**SIZES, head_dim=32),
}

# Their layers have no RMS norm.
LAYER_NORMS = frozenset({"olmo", "phi", "phi_norms", "nemotron"})

# Their attention stays as exported.
UNFUSED = {
    "olmo_clipped": OlmoConfig(**SIZES, clip_qkv=1.0),
    "hunyuan": HunYuanDenseV1Config(**SIZES, head_dim=16),
    "ministral3": Ministral3Config(
        **SIZES,
        head_dim=16,
        sliding_window=None,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 16.0,
            "original_max_position_embeddings": 32,
            "llama_4_scaling_beta": 0.1,
        },
    ),
    "llama_dynamic": LlamaConfig(**SIZES, rope_scaling={"rope_type": "dynamic", "factor": 4.0}),
    "llama_odd_heads": LlamaConfig(**SIZES, head_dim=24),
}


def edited_bundle(folder: Path, file: str = "config.json", **fields: Any) -> Path:
    """Copy the bundled checkpoint, with fields of one of its JSON files replaced."""
    shutil.copytree(BUNDLED, folder)
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | fields))
    return folder


def save_random_model(config: Any, folder: Path) -> Path:
    """Save a model of random weights, norms and biases included, with the bundled tokenizer.

    It never generates the end token, whose logit is 0.
    """
    shutil.copytree(BUNDLED, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.md"))
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
        if config.model_type.startswith("gemma"):  # scaled up, it would only repeat itself
            model.get_input_embeddings().weight *= 0.3
        model.get_output_embeddings().weight[END] = 0
        if (bias := getattr(model.get_output_embeddings(), "bias", None)) is not None:
            bias[END] = -100
    model.generation_config.eos_token_id = [END]
    model.generation_config.pad_token_id = END
    model.save_pretrained(folder)
    return folder


def load(folder: Path, attention: str = "eager") -> Any:
    """Load a model with transformers, by default with the attention of its own source file."""
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention
    ).eval()


def prompt(length: int, seed: int = 0) -> list[int]:
    """Return random token ids, none of them special."""
    return np.random.default_rng(seed + length).integers(3, END, length).tolist()


def logits(model: Any, ids: Sequence[int]) -> NDArray[np.float32]:
    """Return transformers' logits of one prompt: float32 [tokens, vocabulary]."""
    with torch.no_grad():
        output: NDArray[np.float32] = model(torch.tensor([ids]), use_cache=False).logits[0].numpy()
    return output


def greedy(model: Any, ids: Sequence[int], tokens: int) -> list[int]:
    """Return the tokens that transformers' `generate` appends to one prompt."""
    return Reference(None, model).continue_prompt(list(ids), tokens)
