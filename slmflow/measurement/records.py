"""What measuring one model gives."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from slmflow.measurement.measured_model import MeasuredModel


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


@dataclass(frozen=True)
class Likelihood:
    """How likely a model finds a text: the sum of its tokens' natural log-probabilities."""

    logprob: float
    tokens: int


@dataclass(frozen=True)
class Measurement:
    """One model, measured in a process of its own: an answer a row.

    `likelihoods` are those of the expected answers, a row each, and `choices` the natural
    log-probabilities of the letters of each row's choices, None for a row that has none; both are
    None where the model tells none.
    """

    model: MeasuredModel
    load_s: float
    peak_rss_bytes: int | None
    answers: tuple[Answer, ...]
    likelihoods: tuple[Likelihood, ...] | None
    choices: tuple[tuple[float, ...] | None, ...] | None = None

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the measurement that a JSON object holds."""
        told, choices = fields["likelihoods"], fields["choices"]
        return cls(
            **fields
            | {
                "model": MeasuredModel(**fields["model"]),
                "answers": tuple(Answer(**answer) for answer in fields["answers"]),
                "likelihoods": told and tuple(Likelihood(**each) for each in told),
                "choices": choices and tuple(each and tuple(each) for each in choices),
            }
        )


def to_json(measured: Sequence[Measurement]) -> dict[str, Any]:
    """Return what was measured of each model as a JSON object."""
    return {"models": [dataclasses.asdict(each) for each in measured]}


def from_json(told: dict[str, Any]) -> tuple[Measurement, ...]:
    """Return what `to_json` made this object of."""
    return tuple(Measurement.from_json(each) for each in told["models"])
