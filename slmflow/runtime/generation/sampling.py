"""Choose the next token of a completion from its logits, by its request and the checkpoint.

The steps are those of transformers' `generate`, in its order: biases, repetition penalty, the other
settings of the checkpoint, temperature, and the filters of sampling. Biases of a request, presence
and frequency penalty are OpenAI's; the penalties are over the tokens generated so far.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .checkpoint_settings import CheckpointSettings
from .logits_processors import Logits, LogitsProcessors
from .options import RequestOptions

Probabilities = NDArray[np.float64]

NO_SETTINGS = CheckpointSettings()

# transformers' top-h filter considers this many tokens.
_TOP_H_TOKENS = 100


class Sampler:
    """The sampling state of one completion: options, random numbers, and the tokens so far."""

    def __init__(
        self,
        options: RequestOptions,
        prompt: Sequence[int],
        settings: CheckpointSettings = NO_SETTINGS,
        end_tokens: frozenset[int] = frozenset(),
    ) -> None:
        """Start a completion of `prompt`, its token ids."""
        self._options, self._settings = options, settings
        self._random = np.random.default_rng(options.seed)
        self._seen = np.unique(np.asarray(prompt, dtype=np.int64))
        self._counts: Counter[int] = Counter()
        self._processors = (
            LogitsProcessors(settings, prompt, end_tokens, options.max_tokens)
            if settings.change_logits
            else None
        )

    @property
    def keeps_logits(self) -> bool:
        """Whether tokens are chosen by the model's own logits."""
        options = self._options
        return self._processors is None and not (options.has_penalties or options.logit_bias)

    def record(self, token: int) -> None:
        """Count a generated token."""
        if self._options.has_penalties:
            if token not in self._counts:
                self._seen = np.append(self._seen, token)
            self._counts[token] += 1
        if self._processors:
            self._processors.record(token)

    def process(self, logits: Logits) -> Logits:
        """Return the logits, float32[vocabulary], after penalties and settings."""
        if self.keeps_logits:
            return logits
        logits = logits.copy()
        if self._processors:
            self._processors.add_biases(logits)
        for token, bias in self._options.logit_bias:
            logits[token] += bias
        self._apply_penalties(logits)
        if self._processors:
            self._processors.apply(logits)
        return logits

    def choose(self, logits: Logits) -> int:
        """Return the next token for logits of float32[vocabulary]."""
        logits = self.process(logits)
        if self._options.is_greedy:
            return int(logits.argmax())
        tokens, probabilities = candidate_tokens(logits, self._options, self._settings)
        chosen = int(np.searchsorted(np.cumsum(probabilities), self._random.random()))
        return int(tokens[min(chosen, len(tokens) - 1)])  # the rounded sum may be less than 1

    def _apply_penalties(self, logits: Logits) -> None:
        options = self._options
        if options.repetition_penalty != 1:
            scores, penalty = logits[self._seen], np.float32(options.repetition_penalty)
            logits[self._seen] = np.where(scores < 0, scores * penalty, scores / penalty)
        if self._counts:
            tokens = np.fromiter(self._counts.keys(), dtype=np.int64)
            counts = np.fromiter(self._counts.values(), dtype=np.float32)
            logits[tokens] -= options.frequency_penalty * counts + options.presence_penalty


def candidate_tokens(
    logits: Logits, options: RequestOptions, settings: CheckpointSettings = NO_SETTINGS
) -> tuple[NDArray[np.int64], Probabilities]:
    """Return the token ids that all filters keep, ascending, and their probabilities.

    Ascending ids make a seed choose the same token where rounding changes the order of the logits.
    """
    kept = np.arange(len(logits))
    min_p = settings.min_p if options.min_p is None else options.min_p
    if settings.top_h < 1:
        kept = _top_h(_probabilities(logits, options), settings.top_h)
    if 0 < options.top_k < len(kept):
        largest = np.argpartition(logits[kept], -options.top_k)[-options.top_k :]
        kept = kept[np.sort(largest)]
    probabilities = _probabilities(logits[kept], options)
    filters = [
        (_nucleus, options.top_p, options.top_p < 1),
        (_min_p, min_p, min_p > 0),
        (_typical, settings.typical_p, settings.typical_p < 1),
        (_epsilon, settings.epsilon_cutoff, settings.epsilon_cutoff > 0),
        (_eta, settings.eta_cutoff, settings.eta_cutoff > 0),
    ]
    for keep, value, is_set in filters:
        if is_set:
            indices = keep(probabilities, value)
            kept, probabilities = kept[indices], probabilities[indices]
            probabilities /= probabilities.sum()
    return kept, probabilities


def _probabilities(logits: Logits, options: RequestOptions) -> Probabilities:
    scaled = logits.astype(np.float64) / options.temperature
    probabilities: Probabilities = np.exp(scaled - scaled.max())
    probabilities /= probabilities.sum()
    return probabilities


def _nucleus(probabilities: Probabilities, top_p: float) -> NDArray[np.int64]:
    """Return the ascending indices of the largest probabilities that sum to `top_p`."""
    # Drop the small ones before sorting, which is slow for a whole vocabulary: all below this
    # bound sum to less than 1 - top_p.
    large = np.flatnonzero(probabilities >= (1 - top_p) / len(probabilities))
    large = large[np.argsort(-probabilities[large])]
    count = int(np.searchsorted(np.cumsum(probabilities[large]), top_p)) + 1
    return np.sort(large[:count])


def _min_p(probabilities: Probabilities, min_p: float) -> NDArray[np.int64]:
    """Return the indices of probabilities of at least `min_p` times the largest."""
    return np.flatnonzero(probabilities >= min_p * probabilities.max())


def _top_h(probabilities: Probabilities, top_h: float) -> NDArray[np.int64]:
    """Return the ascending indices of the largest probabilities up to a share of their entropy.

    Nguyen et al. 2025, "Top-H decoding".
    """
    largest = np.argsort(-probabilities, kind="stable")[:_TOP_H_TOKENS]
    terms = _entropy_terms(probabilities[largest] / probabilities[largest].sum())
    count = int((np.cumsum(terms) <= top_h * terms.sum()).sum())
    return np.sort(largest[: max(1, count)])


def _typical(probabilities: Probabilities, mass: float) -> NDArray[np.int64]:
    """Return the indices of the probabilities nearest to the entropy that sum to `mass`.

    Meister et al. 2022, "Locally typical sampling".
    """
    with np.errstate(divide="ignore"):
        distances = np.abs(-np.log(probabilities) - _entropy_terms(probabilities).sum())
    order = np.argsort(distances, kind="stable")
    last = min(int((np.cumsum(probabilities[order]) < mass).sum()), len(order) - 1)
    return np.flatnonzero(distances <= distances[order[last]])


def _epsilon(probabilities: Probabilities, epsilon: float) -> NDArray[np.int64]:
    """Return the indices of probabilities of at least `epsilon`, and of the largest."""
    return np.flatnonzero((probabilities >= epsilon) | (probabilities == probabilities.max()))


def _eta(probabilities: Probabilities, epsilon: float) -> NDArray[np.int64]:
    """Return the indices of probabilities above a cutoff that depends on the entropy.

    Hewitt et al. 2022, "Truncation sampling as language model desmoothing".
    """
    entropy = float(_entropy_terms(probabilities).sum())
    return _epsilon(probabilities, min(epsilon, epsilon**0.5 * float(np.exp(-entropy))))


def _entropy_terms(probabilities: Probabilities) -> Probabilities:
    """Return `-p * log(p)`, 0 for a probability of 0."""
    logarithms = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    return -probabilities * logarithms
