"""The figures of requests, as they were served or as they were measured."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import ks_2samp

from slmflow.measurement.records import Measurement
from slmflow.metrics import text_scores
from slmflow.pipeline.served_traces import ServedRequest

LENGTHS = ("prompt_tokens", "output_tokens", "latency_ms")
"""The figures of which every request has one, which make a distribution."""


@dataclass(frozen=True)
class Figures:
    """Figures of some requests.

    values: by name, None if not known; samples: the values of `LENGTHS`, one for each request that
    has it; counts: how many requests a share or a mean rests on.
    """

    values: Mapping[str, float | None]
    samples: Mapping[str, Sequence[float]]
    counts: Mapping[str, int]


def of_served(requests: Sequence[ServedRequest], refusals: Sequence[str], fewest: int) -> Figures:
    """Return the figures of served requests.

    fewest: a share or mean of fewer requests is not known.
    """
    answered = [request for request in requests if not request.is_error]
    texts = [request.answer for request in answered if request.answer is not None]
    judged = [(r.answer, r.expected) for r in answered if r.answer is not None and r.expected]
    samples = {
        "prompt_tokens": _known(request.prompt_tokens for request in answered),
        "output_tokens": _known(request.output_tokens for request in answered),
        "latency_ms": _known(request.latency_ms for request in answered),
        "ttft_ms": _known(request.first_token_ms for request in answered),
    }
    scores = {
        name: [text_scores.best(score, answer, expected) for answer, expected in judged]
        for name, score in (
            ("exact_match", text_scores.exact_match),
            ("token_f1", text_scores.token_f1),
        )
    }
    valid = [request for request in requests if not request.is_rejected]
    shares = {
        "error_share": [float(request.is_error) for request in valid],
        "rejected_share": [float(request.is_rejected) for request in requests],
        "refusal_share": [float(is_refusal(text, refusals)) for text in texts],
        **scores,
    }
    enough = {name: values if len(values) >= fewest else [] for name, values in shares.items()}
    return Figures(
        _percentiles(samples) | {name: _mean(values) for name, values in enough.items()},
        samples,
        {name: len(values) for name, values in (samples | shares).items()},
    )


def of_measurement(
    measured: Measurement, metrics: Mapping[str, float], refusals: Sequence[str]
) -> Figures:
    """Return the figures of a model's measurement; metrics: those of its evaluation by column.

    A row without an answer was rejected: a failing model leaves no measurement.
    """
    answers = [answer for answer in measured.answers if answer.error is None]
    samples = {
        "prompt_tokens": _known(answer.prompt_tokens for answer in answers),
        "output_tokens": _known(answer.completion_tokens for answer in answers),
        "latency_ms": _known(timing.latency_s * 1e3 for timing in measured.timings),
        "ttft_ms": _known(
            None if timing.first_token_s is None else timing.first_token_s * 1e3
            for timing in measured.timings
        ),
    }
    shares = {
        "error_share": [0.0 for _ in answers],
        "rejected_share": [float(answer.error is not None) for answer in measured.answers],
        "refusal_share": [float(is_refusal(answer.text, refusals)) for answer in answers],
    }
    values = _percentiles(samples) | {name: _mean(each) for name, each in shares.items()}
    values |= {name: metrics.get(name) for name in ("exact_match", "token_f1")}
    return Figures(values, samples, {name: len(each) for name, each in (samples | shares).items()})


def distances(before: Figures, now: Figures) -> dict[str, float | None]:
    """Return how far each distribution is from the earlier one: the Kolmogorov-Smirnov statistic.

    It is 0 for the same distribution, and 1 if all values of one are below those of the other.
    """
    pairs = {name: (before.samples[name], now.samples[name]) for name in LENGTHS}
    return {
        f"{name}_distance": float(ks_2samp(*pair).statistic) if all(pair) else None
        for name, pair in pairs.items()
    }


def is_refusal(answer: str, refusals: Sequence[str]) -> bool:
    """Return whether an answer begins with one of these texts, apart from case and white space."""
    start = _plain(answer)
    return any(start.startswith(_plain(each)) for each in refusals)


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace("\u2019", "'").split())


def _known(values: Iterable[float | None]) -> list[float]:
    return [float(value) for value in values if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _percentiles(samples: Mapping[str, Sequence[float]]) -> dict[str, float | None]:
    """Return the median of each sample, and the 95th percentile of each of `LENGTHS`."""
    wanted = [(name, q) for name in LENGTHS for q in (50, 95)] + [("ttft_ms", 50)]
    return {
        f"{name}_p{q}": float(np.percentile(samples[name], q)) if samples[name] else None
        for name, q in wanted
    }
