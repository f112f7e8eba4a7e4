"""Choose the next token of one answer from its logits, as its own options say.

The steps are those of transformers' `generate`, in its order: repetition penalty, temperature,
top-k, top-p. Presence and frequency penalty are OpenAI's, over the tokens of the answer.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .options import Options

Logits = NDArray[np.float32]


class Sampler:
    """The choices of one answer: its options, its random numbers, and what it has said."""

    def __init__(self, options: Options, prompt: Sequence[int]) -> None:
        """Begin an answer to `prompt`, the token ids before it."""
        self._options = options
        self._random = np.random.default_rng(options.seed)
        self._seen = np.unique(np.asarray(prompt, dtype=np.int64))
        self._said: Counter[int] = Counter()

    def said(self, token: int) -> None:
        """Note a token of the answer."""
        if self._options.penalized:
            if token not in self._said:
                self._seen = np.append(self._seen, token)
            self._said[token] += 1

    def penalized(self, logits: Logits) -> Logits:
        """Return the logits, float32[vocabulary], less what the penalties take off."""
        options = self._options
        if not options.penalized:
            return logits
        logits = logits.copy()
        if options.repetition_penalty != 1:
            scores, penalty = logits[self._seen], np.float32(options.repetition_penalty)
            logits[self._seen] = np.where(scores < 0, scores * penalty, scores / penalty)
        if self._said:
            said = np.fromiter(self._said.keys(), dtype=np.int64)
            times = np.fromiter(self._said.values(), dtype=np.float32)
            logits[said] -= options.frequency_penalty * times + options.presence_penalty
        return logits

    def choose(self, logits: Logits) -> int:
        """Return the token to say after logits of float32[vocabulary]."""
        logits = self.penalized(logits)
        if self._options.greedy:
            return int(logits.argmax())
        tokens, probabilities = likely(logits, self._options)
        chosen = int(np.searchsorted(np.cumsum(probabilities), self._random.random()))
        return int(tokens[min(chosen, len(tokens) - 1)])  # rounded, the sum may be less than 1


def likely(logits: Logits, options: Options) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the tokens that top-k and top-p leave, by number, and their probabilities.

    By number, so that a seed chooses the same token where the order of logits hangs on rounding.
    """
    kept = np.arange(len(logits))
    if 0 < options.top_k < len(logits):
        kept = np.sort(np.argpartition(logits, -options.top_k)[-options.top_k :])
    scaled = logits[kept].astype(np.float64) / options.temperature
    probabilities = np.exp(scaled - scaled.max())
    probabilities /= probabilities.sum()
    if options.top_p == 1:
        return kept, probabilities
    within = _nucleus(probabilities, options.top_p)
    return kept[within], probabilities[within] / probabilities[within].sum()


def _nucleus(probabilities: NDArray[np.float64], top_p: float) -> NDArray[np.int64]:
    """Return where the largest probabilities are that together make `top_p`, in order of place."""
    # All that are smaller make less than the rest together. To sort a whole vocabulary takes long.
    large = np.flatnonzero(probabilities >= (1 - top_p) / len(probabilities))
    large = large[np.argsort(-probabilities[large])]
    count = int(np.searchsorted(np.cumsum(probabilities[large]), top_p)) + 1
    return np.sort(large[:count])
