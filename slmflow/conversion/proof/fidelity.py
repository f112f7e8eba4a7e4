"""Fidelity: how much of the model is left after rounding, measured on held-out text.

Neighboring tokens are not independent, so intervals come from blocks of tokens: Student's interval
of a ratio of block sums (Cochran, "Sampling Techniques", 1977, chapter 6).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from slmflow.console.progress_bars import item_bar
from slmflow.conversion.proof.distributions import Array, kl_divergence, log_softmax
from slmflow.conversion.proof.reference_logits import Logits

# Tokens per block. Only a block is held in float64 at a time.
BLOCK = 64

_CONFIDENCE = 0.95

Ids = Sequence[int]


class Loss(Enum):
    """How much of the model is lost; see `LIMITS`."""

    small = "small"
    moderate = "moderate"
    large = "large"


class Limits(NamedTuple):
    """The largest mean KL divergence, in nats, and perplexity ratio of a loss."""

    mean_kl: float
    perplexity_ratio: float


LIMITS = {Loss.small: Limits(0.05, 1.05), Loss.moderate: Limits(0.2, 1.2)}
"""The upper ends of both intervals are at most these, or the loss is larger."""


@dataclass(frozen=True)
class Fidelity:
    """Distance of a model from the reference on held-out text.

    mean_kl, median_kl: Kullback-Leibler divergence of the next-token distributions, reference to
    model, in nats, over positions; top1_agreement: share of positions with the same most likely
    token; perplexity_ratio: the model's perplexity divided by the reference's; tokens: number of
    positions; low, high: 95 % confidence interval.
    """

    mean_kl: float
    mean_kl_low: float
    mean_kl_high: float
    median_kl: float
    top1_agreement: float
    perplexity_ratio: float
    perplexity_ratio_low: float
    perplexity_ratio_high: float
    tokens: int

    @property
    def loss(self) -> Loss:
        """How large the loss is, by the upper ends of the intervals."""
        reached = self.mean_kl_high, self.perplexity_ratio_high
        for loss, limits in LIMITS.items():
            if all(value <= limit for value, limit in zip(reached, limits, strict=True)):
                return loss
        return Loss.large


def measure(
    windows: Sequence[Ids], expected: Iterable[Logits], logits: Iterable[Logits], label: str
) -> Fidelity:
    """Compare a model's logits of the held-out windows with the reference's.

    windows: token ids, at least two blocks of them in all; expected, logits: float32 [tokens,
    vocabulary] for each window, read one at a time; label: name of the model in the
    progress bar.
    """
    blocks = []
    with item_bar() as progress:
        task = progress.add_task(f"held-out text: {label}", total=len(windows))
        for window, reference, other in zip(windows, expected, logits, strict=True):
            blocks += [
                _compare(window, reference, other, slice(start, start + BLOCK))
                for start in range(0, len(window), BLOCK)
            ]
            progress.advance(task)
    divergences = [block.divergences for block in blocks]
    mean_kl, kl_error = _mean(divergences)
    log_ratio, log_ratio_error = _mean([block.lost_log_likelihoods for block in blocks])
    return Fidelity(
        mean_kl=mean_kl,
        mean_kl_low=max(0.0, mean_kl - kl_error),
        mean_kl_high=mean_kl + kl_error,
        median_kl=float(np.median(np.concatenate(divergences))),
        top1_agreement=float(np.concatenate([block.agreements for block in blocks]).mean()),
        perplexity_ratio=_exp(log_ratio),
        perplexity_ratio_low=_exp(log_ratio - log_ratio_error),
        perplexity_ratio_high=_exp(log_ratio + log_ratio_error),
        tokens=sum(map(len, windows)),
    )


class _Block(NamedTuple):
    """Consecutive positions: the last of a window has no next token."""

    divergences: Array
    agreements: NDArray[np.bool_]
    lost_log_likelihoods: Array


def _compare(window: Ids, reference: Logits, other: Logits, block: slice) -> _Block:
    p, q = log_softmax(reference[block]), log_softmax(other[block])
    following = np.array(window[block.start + 1 : block.stop + 1], dtype=np.int64)
    positions = np.arange(len(following))
    return _Block(
        kl_divergence(p, q),
        p.argmax(-1) == q.argmax(-1),
        p[positions, following] - q[positions, following],
    )


def _mean(blocks: Sequence[Array]) -> tuple[float, float]:
    """Return the mean over all positions, and half the width of its confidence interval."""
    sums = np.array([block.sum() for block in blocks])
    counts = np.array([len(block) for block in blocks])
    mean = sums.sum() / counts.sum()
    n = len(blocks)
    deviations = sums - mean * counts
    standard_error = math.sqrt(n / (n - 1) * float((deviations**2).sum())) / counts.sum()
    return float(mean), float(scipy.stats.t.ppf((1 + _CONFIDENCE) / 2, n - 1) * standard_error)


def _exp(value: float) -> float:
    """Return e to this power, infinity if that is too large for a float."""
    with np.errstate(over="ignore"):
        return float(np.exp(value))
