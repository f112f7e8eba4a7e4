"""Adapters that are no ordinary LoRA, or not to be trusted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig as PeftConfig
from peft.tuners.tuners_utils import check_target_module_exists
from safetensors.torch import load_file, save_file

from slmflow.checkpoints.adapters import lora_config
from slmflow.checkpoints.adapters.lora import LoraAdapter
from slmflow.checkpoints.adapters.lora_config import LoraConfig
from slmflow.errors import UserError

NAME = "model.adapter='/a'"
MATRIX = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def adapter(random_adapter: Path, tmp_path: Path) -> Path:
    return shutil.copytree(random_adapter, tmp_path / "adapter")


def _configure(adapter: Path, **settings: Any) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def _change(adapter: Path, change: Callable[[Tensors], object]) -> None:
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "peft_type='PREFIX_TUNING' in adapter_config.json is not"),
        ({"peft_type": None}, "peft_type=None"),
        ({"task_type": "SEQ_CLS"}, "task_type='SEQ_CLS'"),
        ({"use_dora": True}, "use_dora=True"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save=\['lm_head'\]"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out=True"),
        ({"bias": "all"}, "bias='all'"),
        ({"lora_bias": True}, "lora_bias=True"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"target_parameters": ["experts"]}, "target_parameters"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa' .* changes the base model"),
        ({"of_a_later_release": True}, "of_a_later_release=True"),
        ({"r": 0}, "r=0 in adapter_config.json must be a whole number"),
        ({"r": True}, "r=True"),
        ({"lora_alpha": "8"}, "lora_alpha='8' in adapter_config.json must be a number"),
        ({"lora_alpha": 1e400}, "lora_alpha=inf"),
        ({"rank_pattern": {"o_proj": "4"}}, "rank_pattern"),
        ({"rank_pattern": {"(": 8}}, "the pattern .* cannot be matched"),
        ({"target_modules": None}, "target_modules=None"),
        ({"target_modules": ["o_proj"]}, "down_proj is none of the target_modules"),
        ({"r": 4}, "not of rank 4 as adapter_config.json says"),
    ],
    ids=str,
)
def test_unsupported_setting_is_rejected_by_name(
    adapter: Path, settings: dict[str, Any], message: str
) -> None:
    _configure(adapter, **settings)
    with pytest.raises(UserError, match=message):
        LoraAdapter.read(adapter, NAME)


def test_pattern_that_takes_too_long_is_rejected(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lora_config, "_PATTERN_SECONDS", 0.02)
    _configure(adapter, rank_pattern={r"(?:(?:.|\w)+)+\d\d\d": 8})
    with pytest.raises(UserError, match="cannot be matched"):
        LoraAdapter.read(adapter, NAME)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.clear(), "the file is empty"),
        (lambda t: t.pop(MATRIX), "down_proj lacks lora_A"),
        (lambda t: t.update({MATRIX: torch.zeros(8, 3, 2)}), "has matrices"),
        (lambda t: t.update({MATRIX: torch.zeros(9, 384)}), "not of rank 8"),
        (lambda t: t.update({MATRIX: torch.zeros(8, 384, dtype=torch.int8)}), "is I8, not a float"),
        (lambda t: t.update({"lm_head.weight": torch.zeros(2)}), "lm_head.weight is no matrix"),
        (
            lambda t: t.update({"base_model.model.embed.lora_embedding_A": torch.zeros(2)}),
            "lora_embedding_A is no matrix of a Linear module",
        ),
        (
            lambda t: t.update({MATRIX.replace("lora_A", "lora_magnitude_vector"): torch.ones(2)}),
            "lora_magnitude_vector.weight is no matrix",
        ),
    ],
)
def test_other_tensors_are_rejected_by_name(
    adapter: Path, change: Callable[[Tensors], object], message: str
) -> None:
    _change(adapter, change)
    with pytest.raises(UserError, match=message):
        LoraAdapter.read(adapter, NAME)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_value_that_is_not_finite_is_rejected(adapter: Path, value: float) -> None:
    _change(adapter, lambda tensors: tensors[MATRIX][0].fill_(value))
    opened = LoraAdapter.read(adapter, NAME)
    with pytest.raises(UserError, match=r"layers\.0\.mlp\.down_proj have values that are not"):
        opened.check_values()


def test_damaged_file_is_rejected(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match="is not a complete safetensors file"):
        LoraAdapter.read(adapter, NAME)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_missing_file_is_named(adapter: Path, name: str) -> None:
    (adapter / name).unlink()
    with pytest.raises(UserError, match=f"has no {name}"):
        LoraAdapter.read(adapter, NAME)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["o_proj", "layers.1.mlp.down_proj"]},
        {"target_modules": r".*layers\.[13]\.mlp\.\w+"},
        {"target_modules": ["o_proj"], "exclude_modules": r".*\.2\..*"},
        {"target_modules": ["o_proj"], "exclude_modules": ["layers.0.self_attn.o_proj"]},
        {"target_modules": ["o_proj", "down_proj"], "layers_to_transform": 2},
        {
            "target_modules": ["o_proj"],
            "layers_to_transform": [1, 3],
            "layers_pattern": ["h", "layers"],
        },
    ],
    ids=str,
)
def test_targets_are_those_of_peft(settings: dict[str, Any]) -> None:
    paths = [
        f"model.layers.{layer}.{module}"
        for layer in range(4)
        for module in ("self_attn.o_proj", "mlp.down_proj", "mlp.experts.2.down_proj")
    ]
    theirs = PeftConfig(**settings)
    ours = LoraConfig.parse({"peft_type": "LORA", **settings}, NAME)
    expected = [bool(check_target_module_exists(theirs, path)) for path in paths]
    assert [ours.adapts(path) for path in paths] == expected
    assert any(expected)
