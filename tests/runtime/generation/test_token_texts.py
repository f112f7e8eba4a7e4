"""Texts and bytes of single tokens: those of a text join to it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from slmflow.runtime.generation.token_texts import TokenTexts

TEXTS = [
    "Paris is it.",
    " two  spaces ",
    "日本 🙂 é",
    "a\n\n b\t",
    "naïve — “quoted”",
    "🏳️‍🌈",
    "<0x41>",
]


def byte_level() -> Tokenizer:
    """Byte-level BPE, as GPT-2's, with merges within and across characters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(alphabet)}
    merges = [("Ġ", "t"), ("æ", "Ĺ"), ("i", "s")]
    for pair in merges:
        vocabulary["".join(pair)] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def byte_fallback() -> Tokenizer:
    """A SentencePiece vocabulary of a few words, and bytes for the rest."""
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"Partwoqued."]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>"))  # noqa: S106
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def bundled(weights: Path) -> Tokenizer:
    return Tokenizer.from_file(str(weights / "tokenizer.json"))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    ("make", "prefix"), [(byte_level, b""), (byte_fallback, b" ")], ids=["level", "fallback"]
)
def test_bytes_join_to_the_text(make: Callable[[], Tokenizer], prefix: bytes, text: str) -> None:
    tokenizer = make()
    texts = TokenTexts(tokenizer)
    ids = tokenizer.encode(text).ids
    assert b"".join(texts.bytes_of(token) for token in ids) == prefix + text.encode()
    whole = [texts.text_of(token) for token in ids if "\\x" not in texts.text_of(token)]
    assert all(each in f" {text}" for each in whole)


@pytest.mark.parametrize("text", TEXTS)
def test_bundled_tokens_join_to_the_text(weights: Path, text: str) -> None:
    tokenizer = bundled(weights)
    texts = TokenTexts(tokenizer)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert b"".join(texts.bytes_of(token) for token in ids).lstrip() == text.encode().lstrip()


def test_part_of_a_character_is_escaped() -> None:
    tokenizer = byte_level()
    texts = TokenTexts(tokenizer)
    first, last = tokenizer.encode("日").ids
    assert (texts.text_of(first), texts.bytes_of(first)) == (r"\xe6\x97", b"\xe6\x97")
    assert (texts.text_of(last), texts.bytes_of(last)) == (r"\xa5", b"\xa5")


def test_special_token_has_its_name(weights: Path) -> None:
    tokenizer = bundled(weights)
    token = tokenizer.token_to_id("<|end|>")
    assert TokenTexts(tokenizer).text_of(token) == "<|end|>"


def test_id_without_a_token_has_no_bytes(weights: Path) -> None:
    assert TokenTexts(bundled(weights)).bytes_of(10**6) == b""
