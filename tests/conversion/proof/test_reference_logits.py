"""Logits of the reference, against transformers' own loading and one forward pass per row."""

import shutil
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTJConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.conversion import reference_model
from slmflow.conversion.proof import reference_logits
from tests.conversion.architectures import BUNDLED

ROWS = [list(range(3, 3 + length)) for length in (9, 3, 30, 17)]

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
LONGROPE = {"type": "longrope", "short_factor": [1.0, 1.5, 2, 3], "long_factor": [4.0, 5, 6, 7]}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0}
GPT = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}

MODELS = {
    "phi3_window": Phi3Config(**SIZES, sliding_window=6),
    "phi3_longrope": Phi3Config(
        **SIZES, original_max_position_embeddings=16, rope_scaling=LONGROPE
    ),
    "llama_tied": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama_dynamic": LlamaConfig(**SIZES | {"max_position_embeddings": 16}, rope_scaling=DYNAMIC),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=8),
    "mistral_window": MistralConfig(**SIZES, sliding_window=5),
    "gemma": GemmaConfig(**SIZES, head_dim=8),
    "gemma2": Gemma2Config(
        **SIZES,
        head_dim=8,
        sliding_window=5,
        attn_logit_softcapping=0.5,
        final_logit_softcapping=2.0,
        attn_implementation="eager",
    ),
    "gemma3": Gemma3TextConfig(
        **SIZES, head_dim=8, sliding_window=5, layer_types=["sliding_attention", "full_attention"]
    ),
    "smollm3": SmolLM3Config(**SIZES),
    "granite": GraniteConfig(**SIZES, logits_scaling=3.0, embedding_multiplier=4.0),
    "gpt2": GPT2Config(**GPT),
    # These two derive their mask without the positions, so their rows run padded.
    "gptj": GPTJConfig(**GPT, rotary_dim=4),
    "bloom": BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.2),
}


def _save_random_model(config: Any, folder: Path) -> Path:
    """Save a model of random weights with the bundled tokenizer."""
    shutil.copytree(BUNDLED, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.md"))
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder


def _load(name: str, folder: Path) -> tuple[Any, CheckpointTensors]:
    """Save one of `MODELS`; return its model without weights, and its checkpoint."""
    _save_random_model(MODELS[name], folder)
    model = reference_model.load(folder).model
    return model, CheckpointTensors.for_model(folder, model)


@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_transformers(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    model, checkpoint = _load(name, folder)

    logits = reference_logits.compute(model, checkpoint, ROWS)

    loaded = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=MODELS[name]._attn_implementation
    ).eval()
    # Dynamic frequencies are state of the module; in this order they only grow.
    for row, computed in sorted(zip(ROWS, logits, strict=True), key=lambda pair: len(pair[0])):
        with torch.no_grad():
            expected = loaded(torch.tensor([row])).logits[0].numpy()
        assert computed.dtype == np.float32
        np.testing.assert_allclose(computed, expected, atol=1e-5)
        assert np.ptp(expected) > 0.5  # or the tolerance would hide a row that sees another


class _RecordedWeights(Mapping[str, torch.Tensor]):
    """Weights that record each read, and which of them are still in memory."""

    def __init__(self, weights: Mapping[str, torch.Tensor]) -> None:
        self.weights = weights
        self.reads: list[str] = []
        self.memory: dict[str, weakref.ref[NDArray[np.float32]]] = {}
        self.most_in_memory: list[str] = []

    def __getitem__(self, name: str) -> torch.Tensor:
        array = self.weights[name].numpy().copy()
        self.reads.append(name)
        self.memory[name] = weakref.ref(array)
        self.most_in_memory = max(self.most_in_memory, self.in_memory(), key=len)
        return torch.from_numpy(array)

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)

    def in_memory(self) -> list[str]:
        return [name for name, array in self.memory.items() if array() is not None]


def test_weights_are_read_once_and_dropped(tmp_path: Path) -> None:
    model, checkpoint = _load("qwen2", tmp_path / "qwen2")  # its projections have biases
    weights = _RecordedWeights(checkpoint)

    reference_logits.compute(model, weights, ROWS)

    module = "model.layers.0.self_attn.q_proj"
    assert weights.most_in_memory == [f"{module}.weight", f"{module}.bias"]
    assert weights.in_memory() == []
    assert sorted(weights.reads) == sorted(model.state_dict())


def test_model_is_left_unchanged(tmp_path: Path) -> None:
    """A pass beyond the original length changes the rotary frequencies of the model it runs."""
    model, checkpoint = _load("phi3_longrope", tmp_path / "phi3")
    frequencies = model.model.rotary_emb.inv_freq.clone()

    reference_logits.compute(model, checkpoint, ROWS)

    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert torch.equal(model.model.rotary_emb.inv_freq, frequencies)


def test_replaced_weights_change_the_logits(tmp_path: Path) -> None:
    model, checkpoint = _load("llama_tied", tmp_path / "llama")
    weights = dict(checkpoint)

    (plain,) = reference_logits.compute(model, weights, ROWS[:1])
    (scaled,) = reference_logits.compute(
        model, weights | {"lm_head.weight": 2 * weights["lm_head.weight"]}, ROWS[:1]
    )

    np.testing.assert_allclose(scaled, 2 * plain, atol=1e-5)
