"""Measure one MLflow model: `python -m slmflow.measurement.worker JOB`, a child of `interleaved`.

JOB is a file: {"model_uri": "models:/m-...", "seed": 0, "rows": [{"messages": [...], "answer":
"..."}, ...]}. Standard input and output carry one JSON object per line. Output starts with
{"ready": true} after the imports. The first command, {"load": true}, loads and warms up the model;
the reply is {"load_s": 0.5}. {"answer": [0, 8]} answers rows 0 to 7, with one {"answer": {...}}
each. {"end": true} gives {"peak_rss_bytes": ...}, and one {"likelihood": {...}, "choice_logprobs":
[-0.5, ...]} per row if the model can score texts. Output of libraries goes to standard error.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from slmflow.datasets.rows import Row
from slmflow.errors import UserError
from slmflow.flavors.chat_interfaces import (
    Completion,
    find_interface,
    input_names,
    request_completion,
)
from slmflow.flavors.unknown_tokens import install_check
from slmflow.measurement.likelihood import ScoreFunction, find_scorer, score_row
from slmflow.measurement.records import Answer, Likelihood
from slmflow.system.child_processes import claim_stdout, terminate_with_parent
from slmflow.system.memory import peak_rss_bytes

Send = Callable[[dict[str, Any]], None]

# Enough for a stable median; each of these rows costs a second prefill.
_FIRST_TOKEN_ROWS = 32
# The first requests include lazy initialization.
_WARM_UP_ROWS = 3


class TimedModel:
    """A loaded model that answers rows and times its answers, each with the same seed."""

    def __init__(self, model_uri: str, rows: Sequence[Row], seed: int | None) -> None:
        """Load the model and warm it up; `load_s` is the load time in seconds."""
        folder = mlflow.artifacts.download_artifacts(model_uri)  # keeps the network out of load_s
        started = time.perf_counter()
        self.model = mlflow.pyfunc.load_model(folder)
        self.load_s = time.perf_counter() - started
        install_check(self.model)
        self.rows = rows
        self._max_tokens_field = find_interface(self.model.metadata).max_tokens_field
        self._seed = _seeder(self.model, seed)
        self._first_token_interval = -(-len(rows) // _FIRST_TOKEN_ROWS)
        for row in rows[:_WARM_UP_ROWS]:
            self._answer(row, time_first_token=True)

    def answer(self, position: int) -> Answer:
        """Answer a row; at regular intervals, also time the first token."""
        time_first_token = position % self._first_token_interval == 0
        return self._answer(self.rows[position], time_first_token=time_first_token)

    def _answer(self, row: Row, *, time_first_token: bool) -> Answer:
        """Answer a row; a row that the model rejects gets an error and does not end measuring."""
        try:
            return self._accepted_answer(row, time_first_token=time_first_token)
        except MlflowException as error:
            if not _is_rejection(error):
                raise
            return Answer("", None, None, None, None, error=error.message)

    def _accepted_answer(self, row: Row, *, time_first_token: bool) -> Answer:
        first_token_s = None
        if time_first_token and self._max_tokens_field:
            short, seconds = self._request(row, **{self._max_tokens_field: 1})
            # A longer completion than requested says nothing about the first token.
            first_token_s = seconds if short.completion_tokens in (0, 1) else None
        completion, latency_s = self._request(row)
        return Answer(
            text=completion.text,
            latency_s=latency_s,
            first_token_s=first_token_s,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            reasoning=completion.reasoning or None,
        )

    def _request(self, row: Row, **options: Any) -> tuple[Completion, float]:
        options |= self._seed()
        started = time.perf_counter()
        completion = request_completion(self.model, row.messages, **options)
        return completion, time.perf_counter() - started


def _seeder(model: PyFuncModel, seed: int | None) -> Callable[[], dict[str, Any]]:
    """Return a function that seeds the model before a request and returns its seed option."""
    if seed is None:
        return dict
    if "seed" in input_names(model.metadata):
        return lambda: {"seed": seed}
    if "transformers" in model.metadata.flavors:
        from transformers import set_seed  # transformers samples with torch's global generators

        return lambda: set_seed(seed) or {}
    return dict


def _finish(timed: TimedModel, send: Send) -> None:
    # Before the likelihoods: these need the logits of whole answers.
    send({"peak_rss_bytes": peak_rss_bytes()})
    if score := find_scorer(timed.model):
        for row in timed.rows:
            likelihood, logprobs = _score(score, row)
            send({"likelihood": dataclasses.asdict(likelihood), "choice_logprobs": logprobs})


def _score(score: ScoreFunction, row: Row) -> tuple[Likelihood, tuple[float, ...] | None]:
    try:
        return score_row(score, row)
    except MlflowException as error:
        if not _is_rejection(error):
            raise
        return Likelihood(0.0, 0), None


def _is_rejection(error: MlflowException) -> bool:
    return bool(error.get_http_status_code() == 400)


def _serve(job: dict[str, Any], send: Send) -> None:
    send({"ready": True})
    sys.stdin.readline()
    timed = TimedModel(job["model_uri"], [Row(**row) for row in job["rows"]], job["seed"])
    send({"load_s": timed.load_s})
    for line in sys.stdin:
        command = json.loads(line)
        if "end" in command:
            _finish(timed, send)
            return
        for position in range(*command["answer"]):
            send({"answer": dataclasses.asdict(timed.answer(position))})


def _main() -> None:
    terminate_with_parent()
    stdout = claim_stdout()
    try:
        _serve(
            json.loads(Path(sys.argv[1]).read_text()),
            lambda message: print(json.dumps(message), file=stdout, flush=True),
        )
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _main()
