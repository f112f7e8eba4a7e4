"""Next-token distributions of two models, compared in float64."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def log_softmax(logits: NDArray[np.float32]) -> Array:
    """Return log probabilities of logits [positions, vocabulary]: float64 of the same shape."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def kl_divergence(p: Array, q: Array) -> Array:
    """Return the Kullback-Leibler divergence of q from p at each position: float64 [positions].

    p, q: log probabilities float64 [positions, vocabulary].
    """
    return np.asarray((np.exp(p) * (p - q)).sum(-1))
