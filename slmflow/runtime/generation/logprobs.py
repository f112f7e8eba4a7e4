"""The log-probabilities of a completion's tokens: read from logits, delivered with the text."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .events import TokenChance, TokenLogprob
from .logits_processors import Logits
from .token_texts import TokenTexts

# In place of minus infinity, which JSON lacks; OpenAI's value.
_LEAST = -9999.0


class LogprobReader:
    """Read natural log-probabilities from the model's own logits."""

    def __init__(self, texts: TokenTexts, top: int) -> None:
        """Return the `top` most likely tokens with each token."""
        self._texts, self._top = texts, top

    def read(self, token: int, logits: Logits | None, offset: int) -> TokenLogprob:
        """Return the log-probability of a token for the logits, float32[vocabulary], before it.

        offset: where it begins in the text. Without logits it has none.
        """
        text, token_bytes = self._texts.text_of(token), tuple(self._texts.bytes_of(token))
        if logits is None:
            return TokenLogprob(token, text, token_bytes, None, offset)
        logprobs = logits.astype(np.float64)
        logprobs -= logprobs.max()
        logprobs -= np.log(np.exp(logprobs).sum())
        top = tuple(self._chance(int(each), logprobs) for each in _largest(logprobs, self._top))
        logprob = self._chance(token, logprobs).logprob
        return TokenLogprob(token, text, token_bytes, logprob, offset, top)

    def _chance(self, token: int, logprobs: NDArray[np.float64]) -> TokenChance:
        text, token_bytes = self._texts.text_of(token), tuple(self._texts.bytes_of(token))
        return TokenChance(token, text, token_bytes, max(float(logprobs[token]), _LEAST))


class HeldLogprobs:
    """Log-probabilities of tokens whose text is held back, in the order of the tokens."""

    def __init__(self, reader: LogprobReader) -> None:
        """Start with none."""
        self._reader = reader
        self._held: list[TokenLogprob] = []

    def add(self, token: int, logits: Logits | None, offset: int) -> None:
        """Hold that of the next token, which begins at `offset`. See `LogprobReader.read`."""
        self._held.append(self._reader.read(token, logits, offset))

    def take(self, end: float) -> tuple[TokenLogprob, ...]:
        """Return, and no longer hold, those of the tokens that begin before `end` in the text."""
        count = next(
            (index for index, each in enumerate(self._held) if each.offset >= end),
            len(self._held),
        )
        taken, self._held = self._held[:count], self._held[count:]
        return tuple(taken)


def _largest(values: NDArray[np.float64], count: int) -> Sequence[int] | NDArray[np.int64]:
    """Return the indices of the largest values, the largest first; of equal ones the first."""
    count = min(count, len(values))
    if not count:
        return ()
    least = np.partition(values, -count)[-count]
    candidates = np.flatnonzero(values >= least)
    return candidates[np.argsort(-values[candidates], kind="stable")][:count]
