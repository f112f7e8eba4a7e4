"""The tokenizer of a checkpoint: transformers and `tokenizers` must read the same."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from slmflow.checkpoints import tokenizer_files
from slmflow.checkpoints.sample_texts import TEXTS
from slmflow.errors import UserError
from tests.conversion.architectures import BUNDLED

MODEL = "model.path='/m'"

Change = Callable[[dict[str, Any]], None]


def _checkpoint(folder: Path, model_type: str, **settings: Any) -> Path:
    """Copy the bundled model's tokenizer for a model of another type."""
    ignored = shutil.ignore_patterns("*.safetensors", "*.md", "special_tokens_map.json")
    shutil.copytree(BUNDLED, folder, ignore=ignored)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    _edit(folder / "tokenizer_config.json", lambda fields: fields.update(settings))
    return folder


def _edit(file: Path, change: Change) -> None:
    fields = json.loads(file.read_text())
    change(fields)
    file.write_text(json.dumps(fields))


def _content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def _differences(folder: Path, texts: tuple[str, ...] = TEXTS) -> list[str]:
    """Return the texts for which transformers gives other ids than the tokenizer.json on disk."""
    with tokenizer_files.honor_declared_class():
        declared = AutoTokenizer.from_pretrained(folder)
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [text for text in texts if declared(text).input_ids != plain.encode(text).ids]


def _read_digits_singly(fields: dict[str, Any]) -> None:
    parts = [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ]
    fields |= {"normalizer": None, "pre_tokenizer": {"type": "Sequence", "pretokenizers": parts}}


def _lowercase(fields: dict[str, Any]) -> None:
    parts = [{"type": "Lowercase"}, fields["normalizer"]]
    fields["normalizer"] = {"type": "Sequence", "normalizers": parts}


def _as_it_is(_: dict[str, Any]) -> None:
    pass


@pytest.mark.parametrize(
    ("model_type", "tokenizer_class", "change", "text"),
    [
        # Llama's class puts no space before a text that begins with one.
        ("llama", "LlamaTokenizer", _as_it_is, "  two spaces"),
        ("llama", "LlamaTokenizerFast", _as_it_is, "  two spaces"),
        ("llama", "GPT2Tokenizer", _read_digits_singly, "½ 10"),
        ("gemma", "GemmaTokenizer", _as_it_is, "Hello"),
        ("qwen2", "Qwen2Tokenizer", _as_it_is, "Hello"),
        ("qwen2", "TokenizersBackend", _as_it_is, "Hello"),
        ("qwen3", "PreTrainedTokenizerFast", _lowercase, "HELLO"),
        ("smollm3", None, _lowercase, "HELLO"),
    ],
)
def test_transformers_reads_tokenizer_json_as_it_is(
    tmp_path: Path, model_type: str, tokenizer_class: str | None, change: Change, text: str
) -> None:
    folder = _checkpoint(tmp_path / "model", model_type, tokenizer_class=tokenizer_class)
    _edit(folder / "tokenizer.json", change)
    expected = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids

    tokenizer_files.prepare(folder, MODEL)

    assert _differences(folder, (*TEXTS, text)) == []
    assert Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids == expected


@pytest.mark.parametrize(
    ("model_type", "tokenizer_class", "text"),
    [
        ("llama", "LlamaTokenizer", "  two spaces"),
        ("gemma", "GemmaTokenizer", "Hello"),
        ("qwen2", "TokenizersBackend", "Hello"),
    ],
)
def test_transformers_would_read_it_otherwise(
    tmp_path: Path, model_type: str, tokenizer_class: str, text: str
) -> None:
    """If this fails, transformers reads tokenizer.json as it is, and the module can go."""
    folder = _checkpoint(tmp_path / "model", model_type, tokenizer_class=tokenizer_class)

    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert AutoTokenizer.from_pretrained(folder)(text).input_ids != plain.encode(text).ids


def test_files_that_agree_are_left_alone(tmp_path: Path) -> None:
    """As transformers 4 wrote them for the bundled model, and as transformers 5 does."""
    old = _checkpoint(tmp_path / "old", "phi3")
    new = tmp_path / "new"
    AutoTokenizer.from_pretrained(old).save_pretrained(new)
    shutil.copyfile(old / "config.json", new / "config.json")
    before = _content(old), _content(new)

    for folder in (old, new):
        tokenizer_files.prepare(folder, MODEL)

    assert (_content(old), _content(new)) == before


def test_change_of_class_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _checkpoint(tmp_path / "model", "llama", tokenizer_class="LlamaTokenizer")

    tokenizer_files.prepare(folder, MODEL)

    shown = " ".join(capsys.readouterr().err.split())
    assert "LlamaTokenizer would replace the normalizer, pre tokenizer" in shown
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "TokenizersBackend"


@pytest.mark.parametrize("location", ["special_tokens_map.json", "the class"])
def test_special_tokens_are_named_in_the_settings(tmp_path: Path, location: str) -> None:
    folder = _checkpoint(tmp_path / "model", "llama", tokenizer_class="LlamaTokenizer")
    for key in ("bos_token", "eos_token", "unk_token", "pad_token", "added_tokens_decoder"):
        _edit(folder / "tokenizer_config.json", lambda fields, key=key: fields.pop(key))
    if location == "special_tokens_map.json":
        tokens = {"bos_token": "<s>", "eos_token": {"content": "<|end|>"}}
        (folder / location).write_text(json.dumps(tokens))

    tokenizer_files.prepare(folder, MODEL)

    settings = json.loads((folder / "tokenizer_config.json").read_text())
    eos = "<|end|>" if location == "special_tokens_map.json" else "</s>"
    assert (settings["bos_token"], settings["eos_token"]) == ("<s>", eos)
    assert AutoTokenizer.from_pretrained(folder).eos_token == eos


def test_tokens_of_the_settings_are_added_to_tokenizer_json(tmp_path: Path) -> None:
    folder = _checkpoint(tmp_path / "model", "phi3")
    token = {"content": "<|tool|>", "special": True, "lstrip": False, "rstrip": False}
    _edit(
        folder / "tokenizer_config.json",
        lambda fields: fields["added_tokens_decoder"].update({"1024": token}),
    )
    assert AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("<|tool|>") == 1024

    tokenizer_files.prepare(folder, MODEL)

    assert _differences(folder, ("a<|tool|>b",)) == []
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert 1024 in plain.encode("a<|tool|>b").ids


def test_vocabulary_without_tokenizer_json_is_converted(tmp_path: Path) -> None:
    """As GPT-2's checkpoints were published."""
    folder = tmp_path / "model"
    folder.mkdir()
    letters = {chr(letter): number for number, letter in enumerate(range(ord("!"), 127))}
    vocabulary = letters | {"he": 94, "ll": 95, "<|endoftext|>": 96}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\nh e\nl l\n")
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    expected = AutoTokenizer.from_pretrained(folder)("hello").input_ids

    tokenizer_files.prepare(folder, MODEL)

    assert expected == [94, 95, letters["o"]]
    assert _differences(folder, ("hello", "hell")) == []


@pytest.mark.parametrize("content", ["{}", "[", '{"model": {"type": "BPE"}}'])
def test_unreadable_tokenizer_is_rejected(tmp_path: Path, content: str) -> None:
    folder = _checkpoint(tmp_path / "model", "phi3")
    (folder / "tokenizer.json").write_text(content)

    with pytest.raises(UserError, match=r"cannot read the tokenizer of model\.path='/m': "):
        tokenizer_files.prepare(folder, MODEL)
