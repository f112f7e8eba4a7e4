"""Tokens to text as they come, against what transformers makes of all of them."""

import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from slmflow.runtime.generation.detokenizer import AnswerText, Decoder
from tests.fixtures.bundled_model import Reference

TEXTS = ["Paris is it.", " two  spaces ", "日本 🙂 é", "a\n\n b\t", "naïve — “quoted”", "🏳️‍🌈"]


@pytest.fixture(scope="module")
def tokenizer(weights: Path) -> Tokenizer:
    return Tokenizer.from_file(str(weights / "tokenizer.json"))


def pieces(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    decoder = Decoder(tokenizer)
    return [*(decoder.push(token) for token in ids), decoder.rest()]


@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_together_are_the_text(
    tokenizer: Tokenizer, reference: Reference, text: str
) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    given = pieces(tokenizer, ids)
    assert "".join(given) == reference.tokenizer.decode(ids, skip_special_tokens=True)
    assert not any("\ufffd" in piece for piece in given), "no character is split"


def test_any_tokens_at_all_give_what_transformers_gives(
    tokenizer: Tokenizer, reference: Reference
) -> None:
    numbers = random.Random(0)  # noqa: S311 (repeatable, not secret)
    for _ in range(200):
        ids = [numbers.randrange(tokenizer.get_vocab_size()) for _ in range(12)]
        expected = reference.tokenizer.decode(ids, skip_special_tokens=True)
        assert "".join(pieces(tokenizer, ids)) == expected


def test_bytes_come_once_they_are_text(tokenizer: Tokenizer) -> None:
    """A run of single bytes ends with the next token of another kind, or with the text."""
    ids = [tokenizer.token_to_id(token) for token in ("<0xC3>", "<0xA9>", "▁", "<0x41>")]
    assert pieces(tokenizer, ids) == ["", "", "é ", "", "A"]


@pytest.mark.parametrize("tokens", [100, 1000])
def test_a_token_costs_as_much_late_as_early(tokens: int) -> None:
    """Also in a text that never becomes one: a byte that begins a character, again and again."""
    asked: list[int] = []

    class Endless:
        def id_to_token(self, token: int) -> str:
            return "Ã"

        def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
            asked.append(len(ids))
            return "\ufffd" * len(ids)

    decoder = Decoder(Endless())
    text = "".join([*(decoder.push(token) for token in range(tokens)), decoder.rest()])
    assert text == "\ufffd" * tokens
    assert max(asked) < 20


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_stop_string_is_never_given_even_in_parts(tokenizer: Tokenizer, length: int) -> None:
    whole = "The capital of France is Paris."
    ids = tokenizer.encode(whole, add_special_tokens=False).ids
    for start in range(len(whole) - length + 1):
        stop = whole[start : start + length]
        text = AnswerText(tokenizer, ["no such text", stop])
        given = "".join([*(text.push(token) for token in ids), text.rest()])
        assert given == whole[: whole.index(stop)]
        assert text.stopped


def test_what_only_began_like_a_stop_string_is_given_at_the_end(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("France is", add_special_tokens=False).ids
    text = AnswerText(tokenizer, ["is not"])
    assert "".join(text.push(token) for token in ids) == "France "
    assert text.rest() == "is"
    assert not text.stopped


def test_no_white_space_in_front(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(" \n  Paris is", add_special_tokens=False).ids
    text = AnswerText(tokenizer, [])
    assert "".join([*(text.push(token) for token in ids), text.rest()]) == "Paris is"
