"""Prompts of ordinary words, the same in every run."""

import random
from collections.abc import Callable, Iterable

from slmflow.errors import UserError

# Of every timed completion.
NEW_TOKENS = 64


def _evenly_spaced(shortest: int, longest: int) -> Callable[[int], list[int]]:
    return lambda count: [shortest + (longest - shortest) * n // (count - 1) for n in range(count)]


# Functions from a number of prompts to their lengths in words. A question is shorter than its
# answer; prefill of a text takes as long as its answer.
KINDS = {"questions": _evenly_spaced(8, 38), "texts": _evenly_spaced(16, 72)}

# A random model rarely generates an end token.
_MAX_TRIES = 20

_WORDS = (
    "the capital of France is a city on a river where people walk along old streets and read "
    "about music history trade ships mountains weather bread wine numbers letters and tomorrow"
)


def random_text(words: int, number: int) -> str:
    """Return a text of so many words. Each number gives another text."""
    rng = random.Random(f"{words} {number}")  # noqa: S311 (repeatable, not secret)
    return " ".join(rng.choices(_WORDS.split(), k=words))


def full_length_prompts(lengths: Iterable[int], count_tokens: Callable[[str], int]) -> list[str]:
    """Return a text of each length in words whose completion has `NEW_TOKENS` tokens.

    `count_tokens` completes a text and returns the number of tokens, fewer if an end token comes.
    Raises UserError if no text of a length qualifies.
    """
    return [
        _full_length_prompt(words, position, count_tokens) for position, words in enumerate(lengths)
    ]


def _full_length_prompt(words: int, position: int, count_tokens: Callable[[str], int]) -> str:
    for attempt in range(_MAX_TRIES):
        text = random_text(words, position * _MAX_TRIES + attempt)
        if count_tokens(text) == NEW_TOKENS:
            return text
    raise UserError(
        f"the model ends its completion of each of {_MAX_TRIES} prompts before {NEW_TOKENS} "
        "tokens: measure another shape"
    )
