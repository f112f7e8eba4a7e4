"""The parity metrics of a conversion, with their formats and meanings."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ParityMetric:
    """A parity metric as a report shows it."""

    name: str
    value: str
    meaning: str


# The proof first, then the rounding error.
_METRICS = {
    "exact_max_abs_diff": (
        "{:.2g}",
        "proof: largest difference of any logit from the original, in exact arithmetic and with "
        "the same quantized weights on both sides",
    ),
    "tokenizer_mismatches": (
        "{:.0f}",
        "proof: texts and conversations that slmflow encodes otherwise than transformers",
    ),
    "top1_agreement": ("{:.1%}", "rounding error: positions with the same most likely next token"),
    "mean_kl": (
        "{:.3g} nats",
        "rounding error: mean KL divergence of the next-token probabilities",
    ),
    "max_abs_diff": ("{:.3g}", "rounding error: largest difference of any logit from the original"),
}


def parity_metrics(parity: Mapping[str, float]) -> list[ParityMetric]:
    """Return the metrics that were measured, those of the proof first.

    parity: the metrics `parity.*` of a run of convert, without the prefix.
    """
    return [
        ParityMetric(f"parity.{name}", format_string.format(parity[name]), meaning)
        for name, (format_string, meaning) in _METRICS.items()
        if name in parity
    ]
