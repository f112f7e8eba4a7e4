"""What measuring one flavor gives, and the figures that follow from it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Answer:
    """A model's answer to one question; None is what was not measured or not told.

    `first_token_s` is the latency of the same request for one token: the public interface does
    not stream, and a request that ends with its first token takes exactly the time to it.
    """

    text: str
    latency_s: float
    first_token_s: float | None
    prompt_tokens: int | None
    completion_tokens: int | None

    @property
    def prefill_tokens_per_s(self) -> float | None:
        """Tokens of the prompt taken in per second, until the first token is out."""
        if self.first_token_s is None or self.prompt_tokens is None:
            return None
        return self.prompt_tokens / self.first_token_s

    @property
    def decode_tokens_per_s(self) -> float | None:
        """Tokens per second after the first; None for an answer of one token."""
        if self.first_token_s is None or self.completion_tokens is None:
            return None
        seconds = self.latency_s - self.first_token_s
        # On a busy machine the request for one token can take longer than the whole answer.
        if self.completion_tokens < 2 or seconds <= 0:
            return None
        return (self.completion_tokens - 1) / seconds


@dataclass(frozen=True)
class Measurement:
    """One flavor, measured in a process of its own."""

    load_s: float
    peak_rss_bytes: int | None
    perplexity: float | None
    answers: tuple[Answer, ...]


def percentile(values: Iterable[float | None], q: float) -> float | None:
    """Return the `q`-th percentile (0 to 100, linear) of what is not None; None if nothing is."""
    known = [value for value in values if value is not None]
    return float(np.percentile(known, q)) if known else None


def scaled(value: float | None, factor: float) -> float | None:
    """Return `value * factor`, or None for None."""
    return None if value is None else value * factor
