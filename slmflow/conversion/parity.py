"""Does the converted model compute what the original computes? Two questions, two answers.

`compare` measures how far the finished model is from the original: what rounding costs.
`prove` asks whether the graph is right, before rounding hides what is wrong with it: computing in
fp32 with the weights as they were written, it must give the logits that transformers' own code
gives with those very weights.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slmflow.checkpoints.tensors import Checkpoint
from slmflow.config.schema.target import Precision, Target
from slmflow.console.messages import counting, working
from slmflow.conversion import proof_graphs
from slmflow.conversion import reference_model as reference
from slmflow.conversion.export import Exported
from slmflow.conversion.probes import Probe
from slmflow.conversion.reference_model import Logits, Original
from slmflow.conversion.runtime_process import Call, ask
from slmflow.errors import UserError

# fp32 kernels differ in the order of their sums. A share of the largest logit, but of 1 at least:
# anything above it is another computation.
FP32_TOLERANCE = 1e-3

# Enough rows for a batch of unequal lengths, few enough that a large model runs them quickly.
PROOF_ROWS = 4
PROOF_STEPS = 4


@dataclass(frozen=True)
class Parity:
    """How far the converted model is from the original, over all probes.

    max_abs_diff: largest absolute difference of any logit; mean_kl: Kullback-Leibler divergence
    of the next-token distributions, original to converted, in nats, mean over positions;
    top1_agreement: share of positions with the same most likely token; tokenizer_mismatches:
    number of probe texts that the runtime's tokenizer or chat template renders differently.
    """

    max_abs_diff: float
    mean_kl: float
    top1_agreement: float
    tokenizer_mismatches: int


def compare(
    expected: Sequence[Logits], folder: Path, graph: str, probes: Sequence[Probe], what: str
) -> Parity:
    """Run a graph of the converted folder over the probes; compare with the original's logits.

    graph: one that gives the logits of all positions; what: which model this is, for the progress
    bar.
    """
    calls = [Call("logits", [probe.prompt_ids]) for probe in probes]
    calls += [Call("differs", list(dataclasses.astuple(probe))) for probe in probes]
    differences, divergences, agreements = [], [], []
    with counting() as progress:
        task = progress.add_task(f"parity: {what}", total=len(probes))
        results = ask(folder, graph, calls)
        for original, logits in zip(expected, results, strict=False):
            differences.append(np.abs(logits - original).max())
            divergences.append(_kl(original, logits))
            agreements.append(logits.argmax(-1) == original.argmax(-1))
            progress.advance(task)
        mismatches = sum(bool(differs) for differs in results)
    return Parity(
        max_abs_diff=float(max(differences)),
        mean_kl=float(np.concatenate(divergences).mean()),
        top1_agreement=float(np.concatenate(agreements).mean()),
        tokenizer_mismatches=mismatches,
    )


def prove(
    exported: Exported,
    original: Original,
    checkpoint: Checkpoint,
    folder: Path,
    target: Target,
    probes: Sequence[Probe],
) -> float:
    """Compare the graph, computing exactly, with the original on the weights in the folder.

    A padded batch of prompts of unequal lengths, and the first tokens of its answers, which go by
    the KV cache. Returns the largest absolute difference of any logit; raises UserError where it is
    above the tolerance.
    """
    rows = [probe.prompt_ids for probe in probes[:PROOF_ROWS]]
    stored = proof_graphs.Stored(
        exported, checkpoint, folder, half=target.precision is Precision.fp16
    )
    with (
        proof_graphs.exact(exported, stored, folder) as graph,
        working("proof: the graph, computing exactly"),
    ):
        (found,) = ask(folder, graph, [Call("continued", [rows, PROOF_STEPS])])
    answers = found[:-1].argmax(-1).T
    texts = [[*row, *answer] for row, answer in zip(rows, answers.tolist(), strict=True)]
    expected = reference.logits(original.model, stored, texts)
    wanted = np.stack([logits[-PROOF_STEPS:] for logits in expected], axis=1)
    difference = float(np.nanmax(np.abs(found - wanted)))
    refuse_another(difference, largest=float(np.abs(wanted).max()))
    return difference


def refuse_another(difference: float, *, largest: float) -> None:
    """Raise UserError where fp32 logits differ by more than the order of sums explains."""
    if not difference <= FP32_TOLERANCE * max(1.0, largest):
        raise UserError(
            f"the ONNX graph is not the original: its fp32 logits differ by {difference:.2g}, the "
            f"largest of them is {largest:.2g} and a share of {FP32_TOLERANCE:g} is allowed. "
            "Try the other exporter (exporter=builder or exporter=optimum)"
        )


def _kl(reference: Logits, other: Logits) -> NDArray[np.float64]:
    """Return KL(reference || other) of the softmax at each position: float64 [positions]."""
    p, q = _log_softmax(reference), _log_softmax(other)
    return np.asarray((np.exp(p) * (p - q)).sum(-1))


def _log_softmax(logits: Logits) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
