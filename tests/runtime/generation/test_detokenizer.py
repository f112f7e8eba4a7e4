"""Incremental decoding, compared with transformers decoding all tokens at once."""

import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from slmflow.runtime.generation.detokenizer import CompletionText, IncrementalDecoder
from tests.fixtures.bundled_model import Reference

TEXTS = ["Paris is it.", " two  spaces ", "日本 🙂 é", "a\n\n b\t", "naïve — “quoted”", "🏳️‍🌈"]


@pytest.fixture(scope="module")
def tokenizer(weights: Path) -> Tokenizer:
    return Tokenizer.from_file(str(weights / "tokenizer.json"))


def pieces(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    decoder = IncrementalDecoder(tokenizer)
    return [*(decoder.push(token) for token in ids), decoder.flush()]


def joined(text: CompletionText, ids: list[int]) -> str:
    return "".join([*(text.push(token) for token in ids), text.flush()])


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_join_to_the_text(tokenizer: Tokenizer, reference: Reference, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    decoded = pieces(tokenizer, ids)
    assert "".join(decoded) == reference.tokenizer.decode(ids, skip_special_tokens=True)
    assert not any("\ufffd" in piece for piece in decoded), "no character is split"


def test_random_tokens_decode_as_with_transformers(
    tokenizer: Tokenizer, reference: Reference
) -> None:
    numbers = random.Random(0)  # noqa: S311 (repeatable, not secret)
    for _ in range(200):
        ids = [numbers.randrange(tokenizer.get_vocab_size()) for _ in range(12)]
        expected = reference.tokenizer.decode(ids, skip_special_tokens=True)
        assert "".join(pieces(tokenizer, ids)) == expected


def test_byte_tokens_are_held_until_the_run_ends(tokenizer: Tokenizer) -> None:
    """A run ends with the next token of another kind, or with the text."""
    ids = [tokenizer.token_to_id(token) for token in ("<0xC3>", "<0xA9>", "▁", "<0x41>")]
    assert pieces(tokenizer, ids) == ["", "", "é ", "", "A"]


@pytest.mark.parametrize("tokens", [100, 1000])
def test_cost_per_token_is_constant(tokens: int) -> None:
    """Also if the text never becomes valid: each token starts a character that none completes."""
    lengths: list[int] = []

    class IncompleteTokenizer:
        def id_to_token(self, token: int) -> str:
            return "Ã"

        def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
            lengths.append(len(ids))
            return "\ufffd" * len(ids)

    text = "".join(pieces(IncompleteTokenizer(), list(range(tokens))))
    assert text == "\ufffd" * tokens
    assert max(lengths) < 20


@pytest.mark.parametrize("length", [1, 2, 5])
def test_no_part_of_a_stop_string_is_released(tokenizer: Tokenizer, length: int) -> None:
    whole = "The capital of France is Paris."
    ids = tokenizer.encode(whole, add_special_tokens=False).ids
    for start in range(len(whole) - length + 1):
        stop = whole[start : start + length]
        text = CompletionText(tokenizer, ["no such text", stop])
        assert joined(text, ids) == whole[: whole.index(stop)]
        assert text.stopped


def test_unfinished_stop_string_is_released_at_the_end(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("France is", add_special_tokens=False).ids
    text = CompletionText(tokenizer, ["is not"])
    assert "".join(text.push(token) for token in ids) == "France "
    assert text.flush() == "is"
    assert not text.stopped


@pytest.mark.parametrize("prompt", ["Once", "Once ", "日", "", "def f(n):\n"])
@pytest.mark.parametrize("text", TEXTS)
def test_continuation_is_that_of_the_whole_text(
    tokenizer: Tokenizer, reference: Reference, prompt: str, text: str
) -> None:
    context = tokenizer.encode(prompt).ids
    ids = tokenizer.encode(prompt + text).ids[len(context) :]
    before, whole = (
        reference.tokenizer.decode(each, skip_special_tokens=True)
        for each in (context, context + ids)
    )
    assert joined(CompletionText(tokenizer, [], context=context), ids) == whole[len(before) :]


def test_leading_white_space_is_removed(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(" \n  Paris is", add_special_tokens=False).ids
    text = CompletionText(tokenizer, [])
    assert joined(text, ids) == "Paris is"
