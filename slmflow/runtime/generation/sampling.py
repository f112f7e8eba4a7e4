"""Choose the next token of a completion from its logits, by the options of its request.

The steps are those of transformers' `generate`, in its order: repetition penalty, temperature,
top-k, top-p. Presence and frequency penalty are OpenAI's, over the tokens generated so far.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .options import RequestOptions

Logits = NDArray[np.float32]


class Sampler:
    """The sampling state of one completion: options, random numbers, and the tokens so far."""

    def __init__(self, options: RequestOptions, prompt: Sequence[int]) -> None:
        """Start a completion of `prompt`, its token ids."""
        self._options = options
        self._random = np.random.default_rng(options.seed)
        self._seen = np.unique(np.asarray(prompt, dtype=np.int64))
        self._counts: Counter[int] = Counter()

    def record(self, token: int) -> None:
        """Count a generated token."""
        if self._options.has_penalties:
            if token not in self._counts:
                self._seen = np.append(self._seen, token)
            self._counts[token] += 1

    def apply_penalties(self, logits: Logits) -> Logits:
        """Return the logits, float32[vocabulary], after the penalties."""
        options = self._options
        if not options.has_penalties:
            return logits
        logits = logits.copy()
        if options.repetition_penalty != 1:
            scores, penalty = logits[self._seen], np.float32(options.repetition_penalty)
            logits[self._seen] = np.where(scores < 0, scores * penalty, scores / penalty)
        if self._counts:
            tokens = np.fromiter(self._counts.keys(), dtype=np.int64)
            counts = np.fromiter(self._counts.values(), dtype=np.float32)
            logits[tokens] -= options.frequency_penalty * counts + options.presence_penalty
        return logits

    def choose(self, logits: Logits) -> int:
        """Return the next token for logits of float32[vocabulary]."""
        logits = self.apply_penalties(logits)
        if self._options.is_greedy:
            return int(logits.argmax())
        tokens, probabilities = candidate_tokens(logits, self._options)
        chosen = int(np.searchsorted(np.cumsum(probabilities), self._random.random()))
        return int(tokens[min(chosen, len(tokens) - 1)])  # the rounded sum may be less than 1


def candidate_tokens(
    logits: Logits, options: RequestOptions
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the token ids that top-k and top-p keep, ascending, and their probabilities.

    Ascending ids make a seed choose the same token where rounding changes the order of the logits.
    """
    kept = np.arange(len(logits))
    if 0 < options.top_k < len(logits):
        kept = np.sort(np.argpartition(logits, -options.top_k)[-options.top_k :])
    scaled = logits[kept].astype(np.float64) / options.temperature
    probabilities = np.exp(scaled - scaled.max())
    probabilities /= probabilities.sum()
    if options.top_p == 1:
        return kept, probabilities
    nucleus = _nucleus(probabilities, options.top_p)
    return kept[nucleus], probabilities[nucleus] / probabilities[nucleus].sum()


def _nucleus(probabilities: NDArray[np.float64], top_p: float) -> NDArray[np.int64]:
    """Return the ascending indices of the largest probabilities that sum to `top_p`."""
    # Drop the small ones before sorting, which is slow for a whole vocabulary: all below this
    # bound sum to less than 1 - top_p.
    large = np.flatnonzero(probabilities >= (1 - top_p) / len(probabilities))
    large = large[np.argsort(-probabilities[large])]
    count = int(np.searchsorted(np.cumsum(probabilities[large]), top_p)) + 1
    return np.sort(large[:count])
