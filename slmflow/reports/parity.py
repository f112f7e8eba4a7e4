"""The metrics of a conversion that tell its quality, with their formats and meanings."""

from collections.abc import Mapping
from dataclasses import dataclass

PREFIXES = ("parity.", "fidelity.")
"""How the names of the metrics begin."""


@dataclass(frozen=True)
class ParityMetric:
    """A metric as a report shows it, with its 95 % confidence interval if it has one."""

    name: str
    value: str
    meaning: str


# The proof first, then the rounding error.
_METRICS = {
    "parity.exact_max_abs_diff": (
        "{:.2g}",
        "proof: largest difference of any logit from the original, in exact arithmetic and with "
        "the same quantized weights on both sides",
    ),
    "parity.tokenizer_mismatches": (
        "{:.0f}",
        "proof: texts and conversations that slmflow encodes otherwise than transformers",
    ),
    "fidelity.mean_kl": (
        "{:.3g} nats",
        "held-out text: mean KL divergence of the next-token probabilities from the original's",
    ),
    "fidelity.top1_agreement": (
        "{:.1%}",
        "held-out text: positions with the same most likely next token",
    ),
    "fidelity.perplexity_ratio": ("{:.3f}", "held-out text: perplexity over the original's"),
    "fidelity.rtn_mean_kl": (
        "{:.3g} nats",
        "held-out text: the same of plain rounding with as many bits",
    ),
    "fidelity.rtn_top1_agreement": ("{:.1%}", "held-out text: the same of plain rounding"),
    "fidelity.rtn_perplexity_ratio": ("{:.3f}", "held-out text: the same of plain rounding"),
    "parity.top1_agreement": (
        "{:.1%}",
        "rounding error: positions with the same most likely next token",
    ),
    "parity.mean_kl": (
        "{:.3g} nats",
        "rounding error: mean KL divergence of the next-token probabilities",
    ),
    "parity.max_abs_diff": (
        "{:.3g}",
        "rounding error: largest difference of any logit from the original",
    ),
}


def parity_metrics(metrics: Mapping[str, float]) -> list[ParityMetric]:
    """Return those that were measured, those of the proof first.

    metrics: the metrics of a run of convert that begin with one of `PREFIXES`.
    """
    return [
        ParityMetric(name, _value(metrics, name, format_string), meaning)
        for name, (format_string, meaning) in _METRICS.items()
        if name in metrics
    ]


def _value(metrics: Mapping[str, float], name: str, format_string: str) -> str:
    value = format_string.format(metrics[name])
    if f"{name}_low" not in metrics:
        return value
    low, high = (
        format_string.format(metrics[f"{name}_{end}"]).removesuffix(" nats")
        for end in ("low", "high")
    )
    return f"{value} ({low} to {high})"
