"""Parity: the distance of the finished model from the reference, which is the cost of rounding."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from slmflow.console.progress_bars import item_bar
from slmflow.conversion.proof.distributions import kl_divergence, log_softmax
from slmflow.conversion.proof.reference_logits import Logits


@dataclass(frozen=True)
class Parity:
    """Distance of a converted model from the reference over all probes.

    max_abs_diff: largest absolute difference of any logit; mean_kl: Kullback-Leibler divergence of
    the next-token distributions, reference to converted, in nats, mean over positions;
    top1_agreement: share of positions with the same most likely token; tokenizer_mismatches: number
    of texts and conversations that slmflow encodes otherwise than transformers.
    """

    max_abs_diff: float
    mean_kl: float
    top1_agreement: float
    tokenizer_mismatches: int


def measure(
    expected: Sequence[Logits], logits: Iterable[Logits], label: str, tokenizer_mismatches: int
) -> Parity:
    """Compare the logits of a converted model with those of the reference.

    expected, logits: of each prompt, float32 [tokens, vocabulary]; label: name of the model in the
    progress bar.
    """
    differences, divergences, agreements = [], [], []
    with item_bar() as progress:
        task = progress.add_task(f"parity: {label}", total=len(expected))
        for reference, converted in zip(expected, logits, strict=True):
            differences.append(np.abs(converted - reference).max())
            divergences.append(kl_divergence(log_softmax(reference), log_softmax(converted)))
            agreements.append(converted.argmax(-1) == reference.argmax(-1))
            progress.advance(task)
    return Parity(
        max_abs_diff=float(max(differences)),
        mean_kl=float(np.concatenate(divergences).mean()),
        top1_agreement=float(np.concatenate(agreements).mean()),
        tokenizer_mismatches=tokenizer_mismatches,
    )
