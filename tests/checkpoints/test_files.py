"""Which files are taken, and what a folder of them must hold."""

import re
from pathlib import Path

import pytest

from slmflow.checkpoints import files
from slmflow.errors import UserError
from tests.hub import models

MODEL = "model.path='/m'"


def test_only_what_makes_a_model_is_taken() -> None:
    assert set(files.choose(models.whole(), MODEL)) == models.TAKEN


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "pytorch_model-00001-of-00002.bin",
        "optimizer.pt",
        "model.pkl",
        "last.ckpt",
        "modeling_phi3.py",
        "LICENSE.py",
        "consolidated.safetensors",
        "onnx/model.safetensors",
        "../model.safetensors",
        "/etc/config.json",
        "..\\config.json",
        "config.json\n",
        "training_args.bin",
        ".git",
    ],
)
def test_never_taken(name: str) -> None:
    assert name not in files.choose([*models.in_parts(), name], MODEL)


def test_parts_are_taken_with_their_index() -> None:
    assert set(files.choose(models.in_parts(), MODEL)) == set(models.in_parts())


def test_parts_are_left_where_the_weights_are_in_one_file() -> None:
    names = [*models.in_parts(), "model.safetensors"]
    assert set(files.choose(names, MODEL)) == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["model.safetensors", "tokenizer.json"], "has no config.json"),
        (["config.json", "tokenizer.json"], "has no weights"),
        (["config.json", "tokenizer.json", "model.gguf"], "has no weights"),
        (["config.json", "tokenizer.json", "a.bin"], r"has its weights only as pickles \(a.bin\)"),
        (["config.json", "model.safetensors"], "has no tokenizer"),
    ],
)
def test_what_a_model_lacks_is_said(names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"{re.escape(MODEL)} {message}"):
        files.choose(names, MODEL)


def test_all_that_a_model_lacks_is_said_at_once() -> None:
    with pytest.raises(UserError) as fault:
        files.choose([], MODEL)
    assert len(str(fault.value).splitlines()) == 3


@pytest.mark.parametrize("model", [models.whole(), models.in_parts()], ids=["whole", "in parts"])
def test_a_whole_model_passes(tmp_path: Path, model: dict[str, bytes]) -> None:
    files.check(models.lay(tmp_path, model), MODEL)


@pytest.mark.parametrize(
    "part",
    ["../secret-00001-of-00001.safetensors", "/etc/passwd", "evil.bin", "a/m-1-of-1.safetensors"],
)
def test_index_that_leads_elsewhere_is_refused(tmp_path: Path, part: str) -> None:
    model = models.in_parts() | {files.INDEX: models.index({"layer.1": part})}
    with pytest.raises(UserError, match="do not trust this model"):
        files.check(models.lay(tmp_path, model), MODEL)


def test_part_that_is_not_there(tmp_path: Path) -> None:
    model = models.in_parts()
    del model["model-00002-of-00002.safetensors"]
    with pytest.raises(UserError, match=r"lacks model-00002-of-00002.safetensors"):
        files.check(models.lay(tmp_path, model), MODEL)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        b"\x80\x04\x95pickle in disguise",
        models.weights(20)[:-1],
    ],
    ids=["empty", "git-lfs pointer", "pickle", "cut off"],
)
def test_weights_that_are_no_safetensors(tmp_path: Path, content: bytes) -> None:
    model = models.whole() | {"model.safetensors": content}
    with pytest.raises(UserError, match=r"model.safetensors of .* is not a whole safetensors file"):
        files.check(models.lay(tmp_path, model), MODEL)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"a":' + b"[" * 100_000])
def test_config_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    model = models.whole() | {"config.json": content}
    with pytest.raises(UserError, match=r"config.json of .* is not "):
        files.check(models.lay(tmp_path, model), MODEL)


@pytest.mark.parametrize("content", [b"{}", b'{"weight_map": []}', b'{"weight_map": {}}'])
def test_index_without_a_weight_map(tmp_path: Path, content: bytes) -> None:
    model = models.in_parts() | {files.INDEX: content}
    with pytest.raises(UserError, match="has no weight_map"):
        files.check(models.lay(tmp_path, model), MODEL)


def test_files_larger_than_any_model_has() -> None:
    sizes = {"tokenizer.json": 10**9, "config.json": 10**8, "model.safetensors": 10**12}
    with pytest.raises(UserError) as fault:
        files.refuse_oversized(sizes, MODEL)
    assert str(fault.value).splitlines() == [
        f"tokenizer.json of {MODEL} has 1,000 MB, where no model has more than 100: do not trust "
        "this model",
        f"config.json of {MODEL} has 100 MB, where no model has more than 32: do not trust "
        "this model",
    ]
