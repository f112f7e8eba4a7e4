"""What a model reads to score continuations of contexts, each text once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

TokenPair = tuple[Sequence[int], Sequence[int]]
"""The token ids of a context and of its continuation."""


@dataclass(frozen=True)
class Reading:
    """Tokens that the model reads, and the pairs that the logits after them score, by number.

    The last token of a continuation is not read. So continuations of one token after the same
    context, as the letters of choices are, share a reading.
    """

    tokens: tuple[int, ...]
    pairs: dict[int, TokenPair] = field(default_factory=dict)

    @property
    def first(self) -> int:
        """The first position whose logits are needed: the last token of the shortest context."""
        return min(len(context) for context, _ in self.pairs.values()) - 1

    @property
    def positions(self) -> int:
        """The number of positions whose logits are needed."""
        return len(self.tokens) - self.first


def readings_of(pairs: Iterable[tuple[int, TokenPair]]) -> list[Reading]:
    """Return what to read for numbered pairs; neither part of a pair is empty."""
    readings: dict[tuple[int, ...], Reading] = {}
    for number, (context, continuation) in pairs:
        tokens = (*context, *continuation[:-1])
        readings.setdefault(tokens, Reading(tokens)).pairs[number] = (context, continuation)
    return list(readings.values())


def common_length(one: Sequence[object], other: Sequence[object]) -> int:
    """Return the length of the common start of two texts or lists of tokens."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))
