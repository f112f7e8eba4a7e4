"""Random models: reproducible, and valid checkpoints for transformers and fetch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.models import random_models
from benchmarks.models.shapes import Shape
from slmflow.checkpoints import files
from slmflow.errors import BadArguments

SHAPE = Shape(
    layers=3, hidden=64, intermediate=96, heads=2, vocabulary=1056, context_length=256,
    sliding_window=100,
)  # fmt: skip
SHARD_BYTES = 200_000  # smaller than the model, larger than any tensor


def _contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def _write(folder: Path) -> Path:
    folder.mkdir()
    random_models.write_random_model(SHAPE, folder, SHARD_BYTES)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint."""
    return _write(tmp_path_factory.mktemp("random") / "model")


def test_same_shape_gives_same_bytes(folder: Path, tmp_path: Path) -> None:
    assert _contents(folder) == _contents(_write(tmp_path / "again"))


def test_transformers_loads_all_weights(folder: Path) -> None:
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    model, loading = loaded

    assert not any(loading.values())
    tensors = model.state_dict()
    assert tensors["model.layers.2.self_attn.qkv_proj.weight"].shape == (3 * 64, 64)
    assert tensors["model.layers.2.mlp.gate_up_proj.weight"].shape == (2 * 96, 64)
    assert tensors["lm_head.weight"].shape == (1056, 64)
    assert model.config.sliding_window == 100
    assert model.config.eos_token_id == AutoTokenizer.from_pretrained(folder).eos_token_id


def test_weights_are_normal_and_norms_are_ones(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    matrices = [tensor for tensor in model.state_dict().values() if tensor.dim() == 2]
    assert all(abs(float(m.std()) - 0.02) < 0.001 for m in matrices)
    assert all(abs(float(m.mean())) < 0.001 for m in matrices)
    assert len({m.flatten()[:8].sum().item() for m in matrices}) == len(matrices)
    assert torch.equal(model.model.norm.weight, torch.ones(64))


def test_shards_respect_the_size_limit(folder: Path) -> None:
    shards = list(folder.glob("*.safetensors"))
    headers = 4096
    assert len(shards) > 1
    assert all(shard.stat().st_size < SHARD_BYTES + headers for shard in shards)


def test_fetch_accepts_the_checkpoint(folder: Path) -> None:
    files.check(folder, "random")
    assert set(files.select(_contents(folder).keys(), "random")) == _contents(folder).keys()


def test_folder_with_files_is_left_alone(call_main: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "mine").touch()

    with pytest.raises(BadArguments, match="is not empty"):
        call_main(random_models, "tiny", tmp_path)
    assert [*_contents(tmp_path)] == ["mine"]
