"""Parity: the distance of the finished model from the reference, which is the cost of rounding."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slmflow.console.progress_bars import item_bar
from slmflow.conversion.proof.distributions import kl_divergence, log_softmax
from slmflow.conversion.proof.reference_logits import Logits
from slmflow.conversion.proof.runtime_process import Call, run_calls


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
    expected: Sequence[Logits],
    folder: Path,
    graph: str,
    prompts: Sequence[Sequence[int]],
    label: str,
    tokenizer_mismatches: int,
) -> Parity:
    """Run a graph of the converted folder over the prompts and compare the logits.

    expected: logits of the reference for each prompt; graph: file name of a graph that returns the
    logits of all positions; label: name of the model in the progress bar.
    """
    calls = [Call("logits", [list(prompt)]) for prompt in prompts]
    differences, divergences, agreements = [], [], []
    with item_bar() as progress:
        task = progress.add_task(f"parity: {label}", total=len(prompts))
        results = run_calls(folder, graph, calls)
        for reference, logits in zip(expected, results, strict=True):
            differences.append(np.abs(logits - reference).max())
            divergences.append(kl_divergence(log_softmax(reference), log_softmax(logits)))
            agreements.append(logits.argmax(-1) == reference.argmax(-1))
            progress.advance(task)
    return Parity(
        max_abs_diff=float(max(differences)),
        mean_kl=float(np.concatenate(divergences).mean()),
        top1_agreement=float(np.concatenate(agreements).mean()),
        tokenizer_mismatches=tokenizer_mismatches,
    )
