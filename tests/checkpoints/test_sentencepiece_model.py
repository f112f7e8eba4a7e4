"""Checkpoints with only a SentencePiece file, compared with SentencePiece itself."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from slmflow.checkpoints import tokenizer_files
from slmflow.checkpoints.sample_texts import TEXTS
from slmflow.errors import UserError
from slmflow.paths import PROJECT

MODEL = "model.path='/m'"
NO_NORMALIZATION = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
LLAMA = {
    **{"model_type": "bpe", "byte_fallback": True, "unk_id": 0, "bos_id": 1, "eos_id": 2},
    **{"pad_id": -1, **NO_NORMALIZATION},
}
GEMMA = {
    **{"model_type": "bpe", "byte_fallback": True, "add_dummy_prefix": False, "split_digits": True},
    **{"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, **NO_NORMALIZATION},
    **{"eos_piece": "<eos>", "bos_piece": "<bos>"},
    "user_defined_symbols": ["<start_of_turn>", "<end_of_turn>", "\n\n", "▁▁", "▁▁▁"],
}
UNIGRAM = LLAMA | {
    **{"model_type": "unigram", "normalization_rule_name": "nmt_nfkc"},
    "remove_extra_whitespaces": True,
}
README = (PROJECT / "README.md").read_text()


def _checkpoint(
    folder: Path, trainer: dict[str, Any], model_type: str, **settings: Any
) -> SentencePieceProcessor:
    """Write a folder with a newly trained SentencePiece file; return its processor."""
    folder.mkdir(exist_ok=True)
    content = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(README.splitlines()),
        model_writer=content,
        **{"vocab_size": 500, "hard_vocab_limit": False, "minloglevel": 2},
        **trainer,
    )
    (folder / "tokenizer.model").write_bytes(content.getvalue())
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return SentencePieceProcessor(model_proto=content.getvalue())


@pytest.mark.parametrize(
    ("trainer", "model_type", "settings"),
    [
        (LLAMA, "llama", {"tokenizer_class": "LlamaTokenizer"}),
        (LLAMA, "mistral", {"tokenizer_class": "LlamaTokenizer", "legacy": True}),
        (LLAMA, "phi3", {}),
        (GEMMA, "gemma", {"tokenizer_class": "GemmaTokenizer"}),
        (GEMMA, "gemma2", {}),
        (UNIGRAM, "llama", {}),
    ],
)
def test_ids_and_text_equal_sentencepiece(
    tmp_path: Path, trainer: dict[str, Any], model_type: str, settings: dict[str, Any]
) -> None:
    original = _checkpoint(tmp_path, trainer, model_type, **settings)

    tokenizer_files.prepare(tmp_path, MODEL)

    plain = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    declared = AutoTokenizer.from_pretrained(tmp_path)
    bos = original.bos_id()
    for text in (*TEXTS, *README.splitlines(), README):
        ids = original.encode(text)
        assert plain.encode(text, add_special_tokens=False).ids == ids
        assert plain.decode(ids) == original.decode(ids)
        assert plain.encode(text).ids == declared(text).input_ids == [bos, *ids]
    assert declared.bos_token == original.id_to_piece(bos)
    assert declared.eos_token == original.id_to_piece(original.eos_id())


def test_settings_decide_on_bos_and_leading_space(tmp_path: Path) -> None:
    settings = {"add_bos_token": False, "add_prefix_space": False}
    original = _checkpoint(tmp_path, LLAMA, "llama", **settings)

    tokenizer_files.prepare(tmp_path, MODEL)

    ids = AutoTokenizer.from_pretrained(tmp_path)("slmflow").input_ids
    assert ids != original.encode("slmflow")
    assert original.decode(ids) == original.decode(original.encode("slmflow"))
    assert original.id_to_piece(ids[0]).startswith("s")


def test_text_after_special_token_gets_no_space_unless_legacy(tmp_path: Path) -> None:
    """`legacy: false`, as transformers 4 documents it."""
    text, pieces = "<s>slmflow", {}
    for legacy in (True, False):
        folder = tmp_path / str(legacy)
        original = _checkpoint(folder, LLAMA, "llama", legacy=legacy)
        tokenizer_files.prepare(folder, MODEL)
        ids = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False).input_ids
        pieces[legacy] = original.id_to_piece(ids[1])

    assert pieces[True].startswith("▁s")
    assert pieces[False].startswith("s")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a SentencePiece model"),
        (b"hello", "is not a SentencePiece model"),
        (b"IQ== 0\nIg== 1\n", "is not a SentencePiece model"),  # tiktoken's format
    ],
)
def test_other_file_is_rejected(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')

    with pytest.raises(UserError, match=f"tokenizer.model of {MODEL} {message}"):
        tokenizer_files.prepare(tmp_path, MODEL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "char"}, "of words or characters"),
        ({"treat_whitespace_as_suffix": True}, "cannot be converted: SentencePiece tokenizes"),
    ],
)
def test_file_that_cannot_be_converted_exactly_is_rejected(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    _checkpoint(tmp_path, LLAMA | changes, "llama")

    with pytest.raises(UserError, match=message):
        tokenizer_files.prepare(tmp_path, MODEL)
