"""The parity of a conversion, in words: each figure that convert logs, and what it means."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ParityMetric:
    """A figure of parity: what it is of, how it is written, and what it means."""

    name: str
    written: str
    meaning: str


# In the order of what is proven, then what rounding costs.
_FIGURES = {
    "exact_max_abs_diff": (
        "{:.2g}",
        "the proof: the largest difference of any logit from the original, computing exactly and "
        "with the same quantized weights on both sides",
    ),
    "tokenizer_mismatches": (
        "{:.0f}",
        "the proof: probe texts that the two tokenize otherwise",
    ),
    "top1_agreement": (
        "{:.1%}",
        "what rounding costs: positions with the same most likely next token",
    ),
    "mean_kl": (
        "{:.3g} nats",
        "what rounding costs: divergence of the probabilities of the next token, mean",
    ),
    "max_abs_diff": (
        "{:.3g}",
        "what rounding costs: the largest difference of any logit from the original weights'",
    ),
}


def parity_metrics(parity: Mapping[str, float]) -> list[ParityMetric]:
    """Return the figures that were measured, the proof first.

    parity: the metrics `parity.*` of convert's run, by what follows the dot.
    """
    return [
        ParityMetric(f"parity.{name}", form.format(parity[name]), meaning)
        for name, (form, meaning) in _FIGURES.items()
        if name in parity
    ]
