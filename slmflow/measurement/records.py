"""The measurement of a model: its answers and likelihoods, as dataclasses and as JSON."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from slmflow.measurement.measured_model import MeasuredModel


@dataclass(frozen=True)
class Answer:
    """A model's answer to one row; None marks a value that was not measured or not reported.

    `first_token_s` is the latency of the same request limited to one token. The public interface
    does not stream, and a request for one token takes exactly the time to the first token.
    `reasoning` is what a thinking model wrote before the text; its tokens and seconds are counted.
    `error` is why the model rejected the row, whose text is then empty.
    """

    text: str
    latency_s: float | None
    first_token_s: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    reasoning: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Likelihood:
    """The sum of the natural log-probabilities of a text's tokens, and their number."""

    logprob: float
    tokens: int


@dataclass(frozen=True)
class Measurement:
    """One model, measured in its own process: one answer per row.

    `likelihoods` are those of the expected answers, one per row, of no tokens for a row that the
    model rejects. `choice_logprobs` are the natural log-probabilities of the letters of each row's
    choices, None for a row without choices or a rejected one. Both are None if the model cannot
    score texts.
    """

    model: MeasuredModel
    load_s: float
    peak_rss_bytes: int | None
    answers: tuple[Answer, ...]
    likelihoods: tuple[Likelihood, ...] | None
    choice_logprobs: tuple[tuple[float, ...] | None, ...] | None = None

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the measurement in a JSON object."""
        likelihoods, logprobs = fields["likelihoods"], fields["choice_logprobs"]
        return cls(
            **fields
            | {
                "model": MeasuredModel(**fields["model"]),
                "answers": tuple(Answer(**answer) for answer in fields["answers"]),
                "likelihoods": likelihoods and tuple(Likelihood(**each) for each in likelihoods),
                "choice_logprobs": logprobs and tuple(each and tuple(each) for each in logprobs),
            }
        )


def to_json(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Return the measurement of each model as one JSON object."""
    return {"models": [dataclasses.asdict(each) for each in measurements]}


def from_json(fields: dict[str, Any]) -> tuple[Measurement, ...]:
    """Return the measurements in an object that `to_json` returned."""
    return tuple(Measurement.from_json(each) for each in fields["models"])
