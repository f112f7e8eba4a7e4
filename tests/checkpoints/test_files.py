"""Selection and validation of checkpoint files."""

import re
from pathlib import Path

import pytest

from slmflow.checkpoints import files
from slmflow.errors import UserError
from tests.fixtures import tiny_checkpoints

MODEL = "model.path='/m'"


def test_only_checkpoint_files_are_selected() -> None:
    selected = files.select(tiny_checkpoints.single_file(), MODEL)
    assert set(selected) == tiny_checkpoints.SELECTED


@pytest.mark.parametrize(
    "name",
    [
        *("pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "training_args.bin"),
        *("optimizer.pt", "model.pkl", "last.ckpt", "modeling_phi3.py", "LICENSE.py", ".git"),
        *("consolidated.safetensors", "onnx/model.safetensors", "../model.safetensors"),
        *("additional_chat_templates/../../x.jinja", "additional_chat_templates/a/b.jinja"),
        *("additional_chat_templates/.jinja", "additional_chat_templates/tool_use.py"),
        *("/etc/config.json", "..\\config.json", "config.json\n"),
    ],
)
def test_other_file_is_not_selected(name: str) -> None:
    assert name not in files.select([*tiny_checkpoints.sharded(), name], MODEL)


def test_further_chat_templates_are_selected() -> None:
    template = "additional_chat_templates/tool_use.jinja"
    names = [*tiny_checkpoints.single_file(), template]
    assert set(files.select(names, MODEL)) == tiny_checkpoints.SELECTED | {template}


def test_shards_and_index_are_selected() -> None:
    names = tiny_checkpoints.sharded()
    assert set(files.select(names, MODEL)) == set(names)


def test_shards_are_skipped_beside_a_single_file() -> None:
    names = [*tiny_checkpoints.sharded(), "model.safetensors"]
    assert files.select(names, MODEL) == ["config.json", "model.safetensors", "tokenizer.json"]


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
def test_missing_file_is_reported(names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"{re.escape(MODEL)} {message}"):
        files.select(names, MODEL)


def test_all_missing_files_are_reported_at_once() -> None:
    with pytest.raises(UserError) as caught:
        files.select([], MODEL)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    "content",
    [tiny_checkpoints.single_file(), tiny_checkpoints.sharded()],
    ids=["single file", "sharded"],
)
def test_complete_checkpoint_passes(tmp_path: Path, content: dict[str, bytes]) -> None:
    files.check(tiny_checkpoints.write_files(tmp_path, content), MODEL)


@pytest.mark.parametrize(
    "shard",
    [
        *("../secret-00001-of-00001.safetensors", "..\\m-1-of-1.safetensors"),
        *("/etc/passwd", "evil.bin", "a/m-1-of-1.safetensors"),
    ],
)
def test_index_with_path_outside_is_rejected(tmp_path: Path, shard: str) -> None:
    index = tiny_checkpoints.index({"layer.1": shard})
    content = tiny_checkpoints.sharded() | {files.INDEX: index}
    with pytest.raises(UserError, match="do not trust this model"):
        files.check(tiny_checkpoints.write_files(tmp_path, content), MODEL)


def test_missing_shard_is_reported(tmp_path: Path) -> None:
    content = tiny_checkpoints.sharded()
    del content["model-00002-of-00002.safetensors"]
    with pytest.raises(UserError, match=r"lacks model-00002-of-00002.safetensors"):
        files.check(tiny_checkpoints.write_files(tmp_path, content), MODEL)


@pytest.mark.parametrize(
    "weights",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        b"\x80\x04\x95pickle in disguise",
        tiny_checkpoints.weights(20)[:-1],
    ],
    ids=["empty", "git-lfs pointer", "pickle", "truncated"],
)
def test_invalid_safetensors_file_is_rejected(tmp_path: Path, weights: bytes) -> None:
    content = tiny_checkpoints.single_file() | {"model.safetensors": weights}
    with pytest.raises(UserError, match=r"model.safetensors of .* is not a complete safetensors"):
        files.check(tiny_checkpoints.write_files(tmp_path, content), MODEL)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"a":' + b"[" * 100_000])
@pytest.mark.parametrize("name", [files.CONFIG, files.INDEX])
def test_invalid_json_is_rejected(tmp_path: Path, name: str, content: bytes) -> None:
    checkpoint = tiny_checkpoints.sharded() | {name: content}
    with pytest.raises(UserError, match=f"{name} of .* is not "):
        files.check(tiny_checkpoints.write_files(tmp_path, checkpoint), MODEL)


@pytest.mark.parametrize(
    "index", [b"{}", b'{"weight_map": []}', b'{"weight_map": {}}', b'{"weight_map": ["a"]}']
)
def test_index_without_weight_map_is_rejected(tmp_path: Path, index: bytes) -> None:
    content = tiny_checkpoints.sharded() | {files.INDEX: index}
    with pytest.raises(UserError, match="has no weight_map"):
        files.check(tiny_checkpoints.write_files(tmp_path, content), MODEL)


def test_oversized_files_are_rejected() -> None:
    sizes = {"tokenizer.json": 10**9, "config.json": 10**8, "model.safetensors": 10**12}
    with pytest.raises(UserError) as caught:
        files.check_sizes(sizes, MODEL)
    assert str(caught.value).splitlines() == [
        f"tokenizer.json of {MODEL} has 1,000 MB, more than the limit of 100: do not trust "
        "this model",
        f"config.json of {MODEL} has 100 MB, more than the limit of 32: do not trust this model",
    ]
