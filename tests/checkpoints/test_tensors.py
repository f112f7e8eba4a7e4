"""Weights of a snapshot folder, tensor by tensor, against transformers' own loading."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from slmflow.checkpoints import tensors as checkpoint
from slmflow.checkpoints.tensors import INDEX, WEIGHTS, Checkpoint
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


def _model(folder: Path, config: Any = None, **saving: Any) -> Any:
    """Save a model of random weights; return one of the same config without weights."""
    config = config or LlamaConfig(**LLAMA)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder, **saving)
    return reference_model.without_weights(config)


def _edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def _assert_same_as_transformers(found: Checkpoint, folder: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    assert found.names == tuple(found) == tuple(plain)
    for name, tensor in plain.items():
        assert found.shape(name) == tensor.shape
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("size", ["10GB", "20KB"], ids=["one file", "parts"])
@pytest.mark.parametrize("tied", [False, True])
def test_tensors_are_those_of_transformers(tmp_path: Path, tied: bool, size: str) -> None:
    config = LlamaConfig(**LLAMA, tie_word_embeddings=tied)
    model = _model(tmp_path, config, max_shard_size=size)

    assert (tmp_path / INDEX).exists() == (size == "20KB")
    _assert_same_as_transformers(Checkpoint.of(tmp_path, model), tmp_path)


def test_of_two_tied_tensors_the_embedding_stands_for_both(tmp_path: Path) -> None:
    model = _model(tmp_path, LlamaConfig(**LLAMA, tie_word_embeddings=True))
    _edit(tmp_path, lambda tensors: tensors.update({TIED[1]: torch.zeros(64, 32)}))

    _assert_same_as_transformers(Checkpoint.of(tmp_path, model), tmp_path)


def test_names_may_lack_the_prefix_of_the_base_model(tmp_path: Path) -> None:
    """GPT-2 is on the hub like that, with the masks of its old code among the weights."""
    model = _model(tmp_path, GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4))
    bare = {n.removeprefix("transformer."): t for n, t in load_file(tmp_path / WEIGHTS).items()}
    save_file(bare | {"h.0.attn.bias": torch.ones(8, 8)}, tmp_path / WEIGHTS, {"format": "pt"})

    found = Checkpoint.of(tmp_path, model)

    assert found.names[0] == "transformer.wte.weight"
    _assert_same_as_transformers(found, tmp_path)


@pytest.mark.parametrize("piece", [4, 100, 2**20])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_floats_are_widened_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, piece: int
) -> None:
    monkeypatch.setattr(checkpoint, "PIECE_BYTES", piece)
    tensors = {
        "matrix": torch.randn(7, 5).to(dtype),
        "vector": torch.randn(11).to(dtype),
        "scalar": torch.tensor(0.1).to(dtype),
        "empty": torch.empty(0, 3, dtype=dtype),
    }
    save_file(tensors, tmp_path / WEIGHTS)

    found = Checkpoint(tmp_path, {name: tuple(tensor.shape) for name, tensor in tensors.items()})

    for name, tensor in tensors.items():
        assert found[name].dtype == torch.float32
        assert found[name].is_contiguous()
        assert torch.equal(found[name], tensor.float())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_tensor_leaves_no_file_mapped(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"a": torch.randn(64, 64).to(dtype)}, tmp_path / WEIGHTS)
    found = Checkpoint(tmp_path, {"a": (64, 64)})

    held = found["a"]

    assert held.shape == (64, 64)
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def _cut(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:-8])


def _name_in_index(part: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder.parent / "outside.safetensors")
        (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(TIED, part)}))

    return change


def _write_index(text: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        (folder / INDEX).write_text(text)

    return change


def _as(dtype: torch.dtype) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        _edit(folder, lambda t: t.update({n: t[n].to(dtype) for n in t if "proj" in n}))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / WEIGHTS).unlink(), "has no weights"),
        (_cut, "model.safetensors is not a whole safetensors file"),
        (lambda f: (f / WEIGHTS).write_text("version https://git-lfs"), "with `git lfs pull`"),
        (_name_in_index("../outside.safetensors"), r"names '\.\./outside.safetensors', .* trust"),
        (_name_in_index("/etc/passwd"), "do not trust this model"),
        (_name_in_index("..\\outside.safetensors"), "do not trust this model"),
        (_name_in_index("gone.safetensors"), "lacks gone.safetensors, which its"),
        (_write_index("{}"), "is not an index of weights"),
        (_write_index("[1"), "is not an index of weights"),
        (_write_index('{"weight_map": ["a"]}'), "is not an index of weights"),
        (_as(torch.int8), r"not all floats of 16 or 32 bits: .* \(I8\).* and 11 more"),
        (_as(torch.float8_e4m3fn), r"q_proj.weight \(F8_E4M3\)"),
        (lambda f: _edit(f, lambda t: t.pop(TIED[1])), "lack lm_head.weight, of the 21 tensors"),
        (
            lambda f: _edit(f, lambda t: t.update({TIED[0]: torch.zeros(64, 16)})),
            r"config.json asks for: model.embed_tokens.weight is \[64, 16\], not \[64, 32\]\. See",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_when_opened(
    tmp_path: Path, change: Callable[[Path], object], said: str
) -> None:
    folder = tmp_path / "weights"
    model = _model(folder)
    change(folder)

    with pytest.raises(UserError, match=said) as refused:
        Checkpoint.of(folder, model)

    assert "\n" not in str(refused.value)
