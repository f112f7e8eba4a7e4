"""The measurement of a model: its answers, timings and likelihoods, as dataclasses and as JSON."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from slmflow.measurement.harness.task_records import TaskResults
from slmflow.measurement.measured_model import MeasuredModel


@dataclass(frozen=True)
class Answer:
    """A model's answer to one row; None marks a value that the model does not report.

    `reasoning` is what a thinking model wrote before the text; the token counts include it. `error`
    is why the row is not answered; the text is then empty.
    """

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None
    reasoning: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Timing:
    """The times of one request that nothing ran beside; None marks a value that is not known.

    row: the number of the row, from 0; first_token_s: the time to the first token. Where the model
    does not report it, it is the latency of the same request limited to one token.
    """

    row: int
    latency_s: float
    first_token_s: float | None
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(frozen=True)
class Likelihood:
    """The sum of the natural log-probabilities of a text's tokens, and their number."""

    logprob: float
    tokens: int


RowScore = tuple[Likelihood, tuple[float, ...] | None]
"""The likelihood of a row's expected answer; the log-probabilities of the letters of its choices.

The second is None for a row without choices.
"""

NO_SCORE: RowScore = Likelihood(0.0, 0), None
"""The score of a row that is not answered."""


@dataclass(frozen=True)
class BatchCheck:
    """How many rows were answered both alone and in a batch, and which of them differ."""

    rows: int
    different: tuple[int, ...] = ()


@dataclass(frozen=True)
class Measurement:
    """One model, measured in its own process: one answer per row, and timings of some rows.

    load_s, peak_rss_bytes: None without timings. `likelihoods` are those of the expected answers,
    one per row, of no tokens for a row that is not answered. `choice_logprobs` are the natural
    log-probabilities of the letters of each row's choices, None for a row without choices or one
    that is not answered. Both are None if the model cannot score texts. batch_check: None if no row
    was answered both ways. tasks: those of lm-evaluation-harness, in place of rows.
    """

    model: MeasuredModel
    load_s: float | None
    peak_rss_bytes: int | None
    answers: tuple[Answer, ...]
    likelihoods: tuple[Likelihood, ...] | None
    choice_logprobs: tuple[tuple[float, ...] | None, ...] | None = None
    timings: tuple[Timing, ...] = ()
    batch_check: BatchCheck | None = None
    tasks: TaskResults | None = None

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the measurement in a JSON object."""
        likelihoods, logprobs = fields["likelihoods"], fields["choice_logprobs"]
        check, tasks = fields["batch_check"], fields["tasks"]
        return cls(
            **fields
            | {
                "model": MeasuredModel(**fields["model"]),
                "answers": tuple(Answer(**answer) for answer in fields["answers"]),
                "likelihoods": likelihoods and tuple(Likelihood(**each) for each in likelihoods),
                "choice_logprobs": logprobs and tuple(each and tuple(each) for each in logprobs),
                "timings": tuple(Timing(**timing) for timing in fields["timings"]),
                "batch_check": check and BatchCheck(check["rows"], tuple(check["different"])),
                "tasks": tasks and TaskResults.from_json(tasks),
            }
        )


def to_json(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Return the measurement of each model as one JSON object."""
    return {"models": [dataclasses.asdict(each) for each in measurements]}


def from_json(fields: dict[str, Any]) -> tuple[Measurement, ...]:
    """Return the measurements in an object that `to_json` returned."""
    return tuple(Measurement.from_json(each) for each in fields["models"])
