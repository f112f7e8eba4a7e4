"""Fidelity against the same figures computed by torch from transformers' own logits."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from slmflow.conversion.proof import fidelity

RNG = np.random.default_rng(0)


def _logits(*shape: int) -> NDArray[np.float32]:
    return (3 * RNG.standard_normal(shape)).astype(np.float32)


def _noisy(logits: list[NDArray[np.float32]], scale: float) -> list[NDArray[np.float32]]:
    return [each + scale * _logits(*each.shape) for each in logits]


def test_figures_equal_torchs() -> None:
    windows = [RNG.integers(0, 50, length).tolist() for length in (150, 150, 65)]
    reference = [_logits(len(window), 50) for window in windows]
    other = _noisy(reference, 0.1)

    measured = fidelity.measure(windows, reference, other, "test")

    divergences, agreements, losses = [], [], ([], [])
    for window, *pair in zip(windows, reference, other, strict=True):
        p, q = (torch.from_numpy(each).double() for each in pair)
        divergences.append(
            functional.kl_div(
                q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="none"
            ).sum(-1)
        )
        agreements.append(p.argmax(-1) == q.argmax(-1))
        for loss, each in zip(losses, (p, q), strict=True):
            loss.append(
                functional.cross_entropy(each[:-1], torch.tensor(window[1:]), reduction="none")
            )
    p_loss, q_loss = (torch.cat(loss).mean() for loss in losses)
    assert measured.mean_kl == pytest.approx(float(torch.cat(divergences).mean()), rel=1e-9)
    assert measured.median_kl == pytest.approx(float(torch.cat(divergences).quantile(0.5)))
    assert measured.top1_agreement == float(torch.cat(agreements).double().mean())
    assert measured.perplexity_ratio == pytest.approx(math.exp(q_loss - p_loss), rel=1e-9)
    assert measured.tokens == 365


def test_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    """Blocks of noise that neighboring positions share, as text does."""
    covered = 0
    for _ in range(400):
        blocks = [
            np.full(64, RNG.exponential()) + 0.1 * RNG.exponential(size=64) for _ in range(32)
        ]
        mean, half = fidelity._mean(blocks)
        covered += abs(mean - 1.1) <= half
    assert 0.90 <= covered / 400 <= 0.98
