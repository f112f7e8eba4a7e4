"""What is asked: texts of ordinary words, the same on every run."""

import random
from collections.abc import Callable, Iterable

from slmflow.errors import UserError

# Of every answer that is timed.
NEW_TOKENS = 64


def _between(least: int, most: int) -> Callable[[int], list[int]]:
    return lambda count: [least + (most - least) * n // (count - 1) for n in range(count)]


# What is asked together: so many lengths in words, evenly spread. A question is answered with more
# tokens than it has; to read a text takes as long as to answer it.
KINDS = {"questions": _between(8, 38), "texts": _between(16, 72)}

# A random model says one of its end tokens rarely.
_TRIES = 20

_WORDS = (
    "the capital of France is a city on a river where people walk along old streets and read "
    "about music history trade ships mountains weather bread wine numbers letters and tomorrow"
)


def text(words: int, number: int) -> str:
    """Return a text of so many words; each number gives another."""
    chosen = random.Random(f"{words} {number}")  # noqa: S311 (repeatable, not secret)
    return " ".join(chosen.choices(_WORDS.split(), k=words))


def lasting(lengths: Iterable[int], said: Callable[[str], int]) -> list[str]:
    """Return a text of each length in words that is answered with `NEW_TOKENS` tokens.

    `said` asks for such an answer and counts its tokens: fewer where an end token comes. Raises
    UserError where no text gets that many.
    """
    return [_lasting(words, position, said) for position, words in enumerate(lengths)]


def _lasting(words: int, position: int, said: Callable[[str], int]) -> str:
    for attempt in range(_TRIES):
        candidate = text(words, position * _TRIES + attempt)
        if said(candidate) == NEW_TOKENS:
            return candidate
    raise UserError(
        f"the model ends its answer to each of {_TRIES} prompts before {NEW_TOKENS} tokens: "
        "measure another shape"
    )
