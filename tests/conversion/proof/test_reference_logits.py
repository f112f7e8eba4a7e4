"""Logits of the reference, against transformers' own loading and one forward pass per row."""

import copy
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import BloomConfig, GPT2Config, GPTJConfig

from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.conversion import reference_model
from slmflow.conversion.proof import reference_logits
from tests.conversion import architectures
from tests.conversion.architectures import FUSED, UNFUSED

# One is longer than all sliding windows and original context lengths.
ROWS = [architectures.prompt(length) for length in (9, 3, 140, 30)]

GPT = {"vocab_size": 1024, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
MODELS = {
    **FUSED,
    **UNFUSED,
    "gpt2": GPT2Config(**GPT),
    # These two derive their mask without the positions, so their rows run padded.
    "gptj": GPTJConfig(**GPT, rotary_dim=4),
    "bloom": BloomConfig(**GPT),
}


def _load(name: str, folder: Path) -> tuple[Any, CheckpointTensors]:
    """Save one of `MODELS`; return its model without weights, and its checkpoint."""
    config = copy.deepcopy(MODELS[name])
    if name == "llama_dynamic":
        config.max_position_embeddings = 128  # less than the longest row
    config.initializer_range = 0.12  # so that rounding stays within the tolerance
    architectures.save_random_model(config, folder)
    model = reference_model.load(folder).model
    return model, CheckpointTensors.for_model(folder, model)


@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_transformers(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    model, checkpoint = _load(name, folder)

    logits = reference_logits.compute(model, checkpoint, ROWS)

    loaded = architectures.load(folder, attention=model.config._attn_implementation)
    # Dynamic frequencies are state of the module; in this order they only grow.
    for row, computed in sorted(zip(ROWS, logits, strict=True), key=lambda pair: len(pair[0])):
        expected = architectures.logits(loaded, row)
        assert computed.dtype == np.float32
        np.testing.assert_allclose(computed, expected, atol=1e-5)
        assert np.ptp(expected) > 0.5  # or the tolerance would hide a row that sees another


class _RecordedWeights(dict[str, torch.Tensor]):
    """Weights that record each read, and which of them are still in memory."""

    def __init__(self, weights: CheckpointTensors) -> None:
        super().__init__(weights)
        self.reads: list[str] = []
        self.memory: dict[str, weakref.ref[NDArray[np.float32]]] = {}
        self.most_in_memory: list[str] = []

    def __getitem__(self, name: str) -> torch.Tensor:
        array = super().__getitem__(name).numpy().copy()
        self.reads.append(name)
        self.memory[name] = weakref.ref(array)
        self.most_in_memory = max(self.most_in_memory, self.in_memory(), key=len)
        return torch.from_numpy(array)

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
    model, checkpoint = _load("llama", tmp_path / "llama")  # its embedding is tied
    weights = dict(checkpoint)

    (plain,) = reference_logits.compute(model, weights, ROWS[:1])
    (scaled,) = reference_logits.compute(
        model, weights | {"lm_head.weight": 2 * weights["lm_head.weight"]}, ROWS[:1]
    )

    np.testing.assert_allclose(scaled, 2 * plain, atol=1e-5)
