"""Tensors of a checkpoint, compared with transformers' own loading."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from slmflow.checkpoints import tensors
from slmflow.checkpoints.files import INDEX, WEIGHTS
from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.conversion import reference_model
from slmflow.errors import UserError

LLAMA = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
TIED = ("model.embed_tokens.weight", "lm_head.weight")


def _save_model(folder: Path, config: Any = None, **options: Any) -> Any:
    """Save a model with random weights; return one of the same config without weights."""
    config = config or LlamaConfig(**LLAMA)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder, **options)
    return reference_model.build_without_weights(config)


def _edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    content = load_file(folder / WEIGHTS)
    change(content)
    save_file(content, folder / WEIGHTS)


def _assert_equal_to_transformers(opened: CheckpointTensors, folder: Path) -> None:
    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    assert list(opened) == list(expected)
    for name, tensor in expected.items():
        assert opened.shape(name) == tensor.shape
        assert torch.equal(opened[name], tensor)


@pytest.mark.parametrize("size", ["10GB", "20KB"], ids=["single file", "sharded"])
@pytest.mark.parametrize("tied", [False, True])
def test_tensors_equal_those_of_transformers(tmp_path: Path, tied: bool, size: str) -> None:
    config = LlamaConfig(**LLAMA, tie_word_embeddings=tied)
    model = _save_model(tmp_path, config, max_shard_size=size)

    assert (tmp_path / INDEX).exists() == (size == "20KB")
    _assert_equal_to_transformers(CheckpointTensors.for_model(tmp_path, model), tmp_path)


@pytest.mark.parametrize("is_equal", [True, False])
def test_stored_head_is_tied_only_if_equal(tmp_path: Path, is_equal: bool) -> None:
    """As in transformers, which does not tie tensors with different values."""
    config = LlamaConfig(**LLAMA, tie_word_embeddings=True)
    model = _save_model(tmp_path, config)
    embedding, head = TIED
    factor = 1 if is_equal else 2
    _edit(tmp_path, lambda content: content.update({head: factor * content[embedding]}))

    assert tensors.has_untied_values(tmp_path, model) != is_equal

    config.tie_word_embeddings = is_equal
    model = reference_model.build_without_weights(config)
    _assert_equal_to_transformers(CheckpointTensors.for_model(tmp_path, model), tmp_path)


def test_base_prefix_may_be_missing(tmp_path: Path) -> None:
    """As GPT-2 on the hub, which also has the masks of its old code among the weights."""
    model = _save_model(tmp_path, GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4))
    bare = {n.removeprefix("transformer."): t for n, t in load_file(tmp_path / WEIGHTS).items()}
    save_file(bare | {"h.0.attn.bias": torch.ones(8, 8)}, tmp_path / WEIGHTS, {"format": "pt"})

    opened = CheckpointTensors.for_model(tmp_path, model)

    assert next(iter(opened)) == "transformer.wte.weight"
    _assert_equal_to_transformers(opened, tmp_path)


@pytest.mark.parametrize("chunk_bytes", [4, 100, 2**20])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_chunked_conversion_to_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, chunk_bytes: int
) -> None:
    monkeypatch.setattr(tensors, "CHUNK_BYTES", chunk_bytes)
    content = {
        "matrix": torch.randn(7, 5).to(dtype),
        "vector": torch.randn(11).to(dtype),
        "scalar": torch.tensor(0.1).to(dtype),
        "empty": torch.empty(0, 3, dtype=dtype),
    }
    save_file(content, tmp_path / WEIGHTS)

    opened = CheckpointTensors(
        tmp_path, {name: tuple(tensor.shape) for name, tensor in content.items()}
    )

    for name, tensor in content.items():
        assert opened[name].dtype == torch.float32
        assert opened[name].is_contiguous()
        assert torch.equal(opened[name], tensor.float())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_read_tensor_keeps_no_file_mapped(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"a": torch.randn(64, 64).to(dtype)}, tmp_path / WEIGHTS)
    opened = CheckpointTensors(tmp_path, {"a": (64, 64)})

    tensor = opened["a"]

    assert tensor.shape == (64, 64)
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def _truncate(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:-8])


def _name_file_outside(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder.parent / "outside.safetensors")
    weight_map = dict.fromkeys(TIED, "../outside.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def _convert_to(dtype: torch.dtype) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        _edit(folder, lambda t: t.update({n: t[n].to(dtype) for n in t if "proj" in n}))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / WEIGHTS).unlink(), "has no weights"),
        (_truncate, "model.safetensors of .* is not a complete safetensors file .*`git lfs pull`"),
        (_name_file_outside, r"names '\.\./outside.safetensors', .* do not trust this model"),
        (_convert_to(torch.int8), r"not all floats of 16 or 32 bits: .* \(I8\).* and 11 more"),
        (_convert_to(torch.float8_e4m3fn), r"q_proj.weight \(F8_E4M3\)"),
        (lambda f: _edit(f, lambda t: t.pop(TIED[1])), "lack lm_head.weight, of the 21 tensors"),
        (
            lambda f: _edit(f, lambda t: t.update({TIED[0]: torch.zeros(64, 16)})),
            r"json requires: model.embed_tokens.weight is \[64, 16\], not \[64, 32\]\. Check",
        ),
    ],
)
def test_invalid_weights_are_rejected_when_opened(
    tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    folder = tmp_path / "weights"
    model = _save_model(folder)
    change(folder)

    with pytest.raises(UserError, match=message) as caught:
        CheckpointTensors.for_model(folder, model)

    assert "\n" not in str(caught.value)
