"""Weights with an adapter, beside those that peft merges."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from slmflow.checkpoints import tensors
from slmflow.checkpoints.adapters import merged_files
from slmflow.checkpoints.adapters.lora import LoraAdapter
from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.errors import UserError
from tests.conversion import architectures
from tests.fixtures import lora_adapters
from tests.fixtures.lora_adapters import BUNDLED, TARGETS

NAME = "model.adapter='/a'"
SETTINGS: list[dict[str, Any]] = [
    {},
    {"use_rslora": True, "r": 4, "lora_alpha": 3},
    {"rank_pattern": {"o_proj": 2, r"layers\.[12]\.mlp\..*": 3}, "alpha_pattern": {"o_proj": 9}},
    {"target_modules": r".*\.(1|3)\.mlp\.down_proj"},
    {"target_modules": "all-linear"},
    {"layers_to_transform": [0, 2], "layers_pattern": "layers"},
    {"exclude_modules": ["o_proj"]},
    {"target_modules": [*TARGETS, "lm_head"]},
]


def _open(folder: Path, base: Path = BUNDLED) -> CheckpointTensors:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return CheckpointTensors.for_model(base, model, LoraAdapter.read(folder, NAME))


def _assert_merged(opened: CheckpointTensors, merged: Any) -> None:
    expected = merged.state_dict()
    assert set(opened) == set(expected)
    for name in opened:
        assert torch.equal(opened[name], expected[name]), name


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_weights_are_those_that_peft_merges(settings: dict[str, Any], tmp_path: Path) -> None:
    adapted = lora_adapters.randomize(lora_adapters.untrained(**settings))
    adapted.save_pretrained(tmp_path, save_embedding_layers=False)
    _assert_merged(_open(tmp_path), lora_adapters.merged(tmp_path))


def test_matrices_of_16_bits_are_merged_in_float32(tmp_path: Path) -> None:
    adapted = lora_adapters.randomize(lora_adapters.untrained()).to(torch.bfloat16)
    adapted.save_pretrained(tmp_path)
    assert load_file(tmp_path / "adapter_model.safetensors").popitem()[1].dtype == torch.bfloat16
    _assert_merged(_open(tmp_path), lora_adapters.merged(tmp_path))


def test_large_weight_is_merged_in_chunks(
    random_adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors, "CHUNK_BYTES", 10_000)
    expected = lora_adapters.merged(random_adapter).state_dict()
    opened = _open(random_adapter)
    for name in opened:
        torch.testing.assert_close(opened[name], expected[name], rtol=0, atol=1e-6)


def test_rewritten_files_give_the_model_that_peft_merges(
    random_adapter: Path, tmp_path: Path
) -> None:
    base = AutoModelForCausalLM.from_pretrained(BUNDLED, dtype=torch.bfloat16)
    base.save_pretrained(tmp_path, max_shard_size="2MB")
    expected = lora_adapters.merged(random_adapter, tmp_path)
    total = sum(file.stat().st_size for file in tmp_path.glob("*.safetensors"))

    merged_files.merge(tmp_path, LoraAdapter.read(random_adapter, NAME))

    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert not list(tmp_path.glob("*.merging"))
    assert sum(file.stat().st_size for file in tmp_path.glob("*.safetensors")) > total
    found = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).state_dict()
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found[name], tensor), name


def test_files_without_the_prefix_of_the_base_model_are_merged(
    random_adapter: Path, tmp_path: Path
) -> None:
    AutoModelForCausalLM.from_pretrained(BUNDLED).model.save_pretrained(tmp_path)
    names = merged_files.weight_names(
        tensors.read_headers(tmp_path), LoraAdapter.read(random_adapter, NAME).modules
    )
    assert names["model.layers.0.mlp.down_proj"] == "layers.0.mlp.down_proj.weight"


def test_adapter_of_another_model_is_rejected(random_adapter: Path, tmp_path: Path) -> None:
    architectures.save_random_model(architectures.FUSED["llama"], tmp_path / "llama")
    with pytest.raises(UserError, match="qkv_proj is missing in the base model, not Linear"):
        _open(random_adapter, tmp_path / "llama")


def test_adapter_of_a_tied_weight_is_rejected(tmp_path: Path) -> None:
    base, folder = tmp_path / "base", tmp_path / "adapter"
    model = AutoModelForCausalLM.from_pretrained(BUNDLED)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(base)
    adapted = lora_adapters.randomize(lora_adapters.untrained(target_modules=["lm_head"]))
    adapted.save_pretrained(folder, save_embedding_layers=False)
    with pytest.raises(UserError, match="lm_head shares its weight with another module"):
        _open(folder, base)
