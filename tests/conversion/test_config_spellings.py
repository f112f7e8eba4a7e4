"""Configs as transformers 4 and 5 write them give the same model in both flavors."""

import copy
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import Gemma3TextConfig, LlamaConfig, Phi3Config, PretrainedConfig, Qwen3Config

from slmflow.conversion.proof import graph_variants
from slmflow.conversion.proof.graph_runtime import Runtime
from tests.conversion import architectures
from tests.conversion.architectures import ALTERNATING, LLAMA3, SIZES, WINDOW
from tests.conversion.conversions import convert

TOKENS = 200
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


def _llama(theta: float, **scaling: Any) -> LlamaConfig:
    return LlamaConfig(**SIZES, rope_parameters={"rope_theta": theta, **scaling})


def _phi3(**fields: Any) -> Phi3Config:
    sizes = SIZES | {"num_key_value_heads": 4, "max_position_embeddings": 256} | fields
    return Phi3Config(**sizes, original_max_position_embeddings=128)


CONFIGS: dict[str, PretrainedConfig] = {
    "default": _llama(500_000.0, rope_type="default"),
    "llama3": _llama(500_000.0, **{**LLAMA3, "rope_theta": 500_000.0}),
    "linear": _llama(50_000.0, rope_type="linear", factor=4.0),
    "yarn": _llama(50_000.0, **YARN),
    "dynamic": _llama(50_000.0, rope_type="dynamic", factor=4.0),
    "longrope": _phi3(rope_scaling=architectures.longrope(16)),
    "partial": _phi3(
        hidden_size=256, partial_rotary_factor=0.75, rope_scaling=architectures.longrope(48)
    ),
    "qwen3 yarn": Qwen3Config(
        **SIZES, head_dim=32, rope_parameters={"rope_theta": 1_000_000.0, **YARN}
    ),
    "by layer type": Gemma3TextConfig(
        **SIZES | {"tie_word_embeddings": True},
        **{"head_dim": 32, "query_pre_attn_scalar": 24, "sliding_window": WINDOW},
        layer_types=ALTERNATING,
        rope_parameters={
            "full_attention": {"rope_theta": 800_000.0, "rope_type": "linear", "factor": 4.0},
            "sliding_attention": {"rope_theta": 20_000.0, "rope_type": "default"},
        },
    ),
}
_NOT_LONG = ("llama3", "old")  # the other tests convert models in the new spelling


def _spell_as_transformers_4(config: dict[str, Any]) -> dict[str, Any]:
    """Return the content of config.json with the names of transformers 4."""
    config = copy.deepcopy(config) | {"transformers_version": "4.55.0"}
    config["torch_dtype"] = config.pop("dtype")
    parameters = config.pop("rope_parameters")
    if "full_attention" in parameters:
        config["rope_local_base_freq"] = parameters["sliding_attention"]["rope_theta"]
        parameters = parameters["full_attention"]
    config["rope_theta"] = parameters.pop("rope_theta")
    partial = parameters.pop("partial_rotary_factor", None)
    if partial is not None:
        config["partial_rotary_factor"] = partial
    if parameters["rope_type"] == "longrope":
        parameters = {key: parameters[key] for key in ("type", "short_factor", "long_factor")}
    config["rope_scaling"] = parameters if parameters.get("rope_type") != "default" else None
    return config


def _save(config: PretrainedConfig, folder: Path) -> tuple[Path, Path]:
    """Save one model in two folders, in the old and in the new spelling."""
    new = architectures.save_random_model(copy.deepcopy(config), folder / "new")
    content = json.loads((new / "config.json").read_text())
    assert "rope_parameters" in content
    assert not content.keys() & {"rope_theta", "rope_scaling", "torch_dtype"}
    old = folder / "old"
    shutil.copytree(new, old)
    (old / "config.json").write_text(json.dumps(_spell_as_transformers_4(content)))
    return old, new


@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_reads_both_spellings(tmp_path: Path, name: str) -> None:
    row = architectures.prompt(TOKENS)
    old, new = (
        architectures.logits(architectures.load(folder), row)
        for folder in _save(CONFIGS[name], tmp_path)
    )

    np.testing.assert_array_equal(old, new)


def test_rotary_settings_change_the_logits(tmp_path: Path) -> None:
    """Or the tests of this file would pass without them."""
    row = architectures.prompt(TOKENS)
    logits = []
    for name in ("llama3", "linear", "yarn", "default"):
        folder, _ = _save(CONFIGS[name], tmp_path / name)
        logits.append(architectures.logits(architectures.load(folder), row))

    for index, each in enumerate(logits):
        for other in logits[index + 1 :]:
            assert np.abs(each - other).max() > 0.1


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        pytest.param(*each, marks=() if each == _NOT_LONG else pytest.mark.long)
        for each in itertools.product(CONFIGS, ("old", "new"))
    ],
)
def test_converted_model_follows_both_spellings(tmp_path: Path, name: str, spelling: str) -> None:
    _save(CONFIGS[name], tmp_path)
    weights, folder = tmp_path / spelling, tmp_path / "onnx"
    row = architectures.prompt(TOKENS)

    convert(weights, folder, "cpu_fp32")
    with graph_variants.all_positions(folder) as graph:
        logits = Runtime(folder, graph).logits(row)

    expected = architectures.logits(architectures.load(weights), row)
    np.testing.assert_allclose(logits, expected, atol=1e-3, rtol=0)
