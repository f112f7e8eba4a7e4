"""The original's logits, against transformers' own loading and a forward pass for each row."""

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

from slmflow.checkpoints.tensors import Checkpoint
from slmflow.conversion import reference_model
from slmflow.errors import UserError
from slmflow.paths import PROJECT

BUNDLED = PROJECT / "bundled" / "tiny_phi3"
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
    # These two make their mask without the positions, so the rows run padded.
    "gptj": GPTJConfig(**GPT, rotary_dim=4),
    "bloom": BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.2),
}


def _saved(config: Any, folder: Path) -> Path:
    """Make a model of random weights, with the bundled one's tokenizer."""
    shutil.copytree(BUNDLED, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.md"))
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    config = MODELS[name]
    folder = _saved(config, tmp_path / name)
    original = reference_model.load(folder)

    found = reference_model.logits(original.model, Checkpoint.of(folder, original.model), ROWS)

    plain = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=config._attn_implementation
    ).eval()
    # Dynamic frequencies are a state of the module; they only ever grow in this order.
    for row, logits in sorted(zip(ROWS, found, strict=True), key=lambda pair: len(pair[0])):
        with torch.no_grad():
            expected = plain(torch.tensor([row])).logits[0].numpy()
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected, atol=1e-5)
        assert np.ptp(expected) > 0.5  # or the tolerance would hide a row that sees another


class _Counting(Mapping[str, torch.Tensor]):
    """Weights that know which of them are still held by someone, and how often each was asked."""

    def __init__(self, weights: Mapping[str, torch.Tensor]) -> None:
        self.weights = weights
        self.asked: list[str] = []
        self.held: dict[str, weakref.ref[NDArray[np.float32]]] = {}
        self.most_held: list[str] = []

    def __getitem__(self, name: str) -> torch.Tensor:
        memory = self.weights[name].numpy().copy()
        self.asked.append(name)
        self.held[name] = weakref.ref(memory)
        self.most_held = max(self.most_held, self.names_held(), key=len)
        return torch.from_numpy(memory)

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)

    def names_held(self) -> list[str]:
        return [name for name, memory in self.held.items() if memory() is not None]


def test_one_module_has_weights_at_a_time_and_each_is_read_once(tmp_path: Path) -> None:
    folder = _saved(MODELS["qwen2"], tmp_path / "qwen2")  # its projections have biases
    original = reference_model.load(folder)
    weights = _Counting(Checkpoint.of(folder, original.model))

    reference_model.logits(original.model, weights, ROWS)

    module = "model.layers.0.self_attn.q_proj"
    assert weights.most_held == [f"{module}.weight", f"{module}.bias"]
    assert weights.names_held() == []
    assert sorted(weights.asked) == sorted(original.model.state_dict())


def test_the_model_is_left_without_weights_and_as_it_was(tmp_path: Path) -> None:
    """A pass beyond the original length changes the rotary frequencies of the model it runs."""
    folder = _saved(MODELS["phi3_longrope"], tmp_path / "phi3")
    model = reference_model.load(folder).model
    frequencies = model.model.rotary_emb.inv_freq.clone()

    reference_model.logits(model, Checkpoint.of(folder, model), ROWS)

    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert torch.equal(model.model.rotary_emb.inv_freq, frequencies)


def test_other_weights_of_the_same_names_give_other_logits(tmp_path: Path) -> None:
    folder = _saved(MODELS["llama_tied"], tmp_path / "llama")
    model = reference_model.load(folder).model
    weights = dict(Checkpoint.of(folder, model))

    (plain,) = reference_model.logits(model, weights, ROWS[:1])
    (scaled,) = reference_model.logits(
        model, weights | {"lm_head.weight": 2 * weights["lm_head.weight"]}, ROWS[:1]
    )

    np.testing.assert_allclose(scaled, 2 * plain, atol=1e-5)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"config.json": '{"model_type": "none-such"}'}, "transformers cannot load the model"),
        ({"config.json": '{"model_type": "t5"}'}, "transformers cannot load the model"),
        ({"config.json": '{"model_type": "phi3", "hidden_size": "wide"}'}, "cannot load the model"),
        ({"tokenizer.json": "{}"}, "transformers cannot load the model"),
        ({"tokenizer_config.json": "{}"}, "has no chat template"),
        (
            {
                "config.json": '{"auto_map": {"AutoConfig": "code.Config"}, "model_type": "own"}',
                "code.py": "raise SystemExit('code of the model ran')",
            },
            "transformers cannot load the model",
        ),
    ],
)
def test_what_is_no_chat_model_is_refused(tmp_path: Path, files: dict[str, str], said: str) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(BUNDLED, folder)
    for name, content in files.items():
        (folder / name).write_text(content)

    with pytest.raises(UserError, match=said):
        reference_model.load(folder)
