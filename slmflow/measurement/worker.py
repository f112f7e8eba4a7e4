"""Measure one MLflow model: `python -m slmflow.measurement.worker JOB`, the child of `measured`.

JOB is a file: {"model_uri": "models:/m-...", "seed": 0, "rows": [{"messages": [...], "answer":
"..."}, ...]}. Standard output is one JSON object a line, at first {"load_s": 0.5} from a model that
is warm, which loads at the first line of standard input, {"load": true}, once {"ready": true} was
told. Then each line is a turn: {"answer": [0, 8]} asks rows 0 to 7, and gives
{"answer": {...}} for each; {"end": true} gives {"peak_rss_bytes": ...}, and for each row, if the
model tells any, {"likelihood": {...}, "choices": [-0.5, ...]}. Whatever libraries print goes to
standard error.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlflow
from mlflow.pyfunc import PyFuncModel

from slmflow.datasets.rows import Row
from slmflow.errors import UserError
from slmflow.flavors.chat_interfaces import Reply, ask, inputs, interface
from slmflow.measurement.likelihood import of_row, scorer
from slmflow.measurement.records import Answer
from slmflow.system.child_processes import end_with_parent, take_stdout
from slmflow.system.memory import peak_rss_bytes

Send = Callable[[dict[str, Any]], None]

# Enough for a steady median; each of these rows costs a second prefill.
_FIRST_TOKEN_ROWS = 32
# The first answers also pay for what is set up lazily.
_WARM_UP_ROWS = 3


class Asked:
    """A loaded model and the rows it is asked, each with the same seed where it samples."""

    def __init__(self, model_uri: str, rows: Sequence[Row], seed: int | None) -> None:
        """Load the model and warm it up; `load_s` is how long the loading took."""
        folder = mlflow.artifacts.download_artifacts(model_uri)  # so that load_s has no network
        started = time.perf_counter()
        self.model = mlflow.pyfunc.load_model(folder)
        self.load_s = time.perf_counter() - started
        self.rows = rows
        self._most_tokens = interface(self.model).most_tokens
        self._seeded = _seeded(self.model, seed)
        self._every = -(-len(rows) // _FIRST_TOKEN_ROWS)
        for row in rows[:_WARM_UP_ROWS]:
            self._answer(row, time_first_token=True)

    def answer(self, position: int) -> Answer:
        """Ask a row; of every so many also the time to the first token is taken."""
        return self._answer(self.rows[position], time_first_token=position % self._every == 0)

    def _answer(self, row: Row, *, time_first_token: bool) -> Answer:
        first_token_s = None
        if time_first_token and self._most_tokens:
            short, seconds = self._timed(row, **{self._most_tokens: 1})
            # A model that does not keep to one token tells nothing of the first one's time.
            first_token_s = seconds if short.completion_tokens in (0, 1) else None
        reply, latency_s = self._timed(row)
        return Answer(
            text=reply.text,
            latency_s=latency_s,
            first_token_s=first_token_s,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
        )

    def _timed(self, row: Row, **options: Any) -> tuple[Reply, float]:
        options |= self._seeded()
        started = time.perf_counter()
        reply = ask(self.model, row.messages, **options)
        return reply, time.perf_counter() - started


def _seeded(model: PyFuncModel, seed: int | None) -> Callable[[], dict[str, Any]]:
    """Return what seeds a model before a request: it gives the further fields of the request."""
    if seed is None:
        return dict
    if "seed" in inputs(model):
        return lambda: {"seed": seed}
    if "transformers" in model.metadata.flavors:
        from transformers import set_seed  # it samples with torch's own generators

        return lambda: set_seed(seed) or {}
    return dict


def _end(asked: Asked, send: Send) -> None:
    # Before the likelihoods, which need the logits of whole answers.
    send({"peak_rss_bytes": peak_rss_bytes()})
    if score := scorer(asked.model):
        for row in asked.rows:
            expected, choices = of_row(score, row)
            send({"likelihood": dataclasses.asdict(expected), "choices": choices})


def _serve(job: dict[str, Any], send: Send) -> None:
    send({"ready": True})  # all that is imported for any model is there
    sys.stdin.readline()
    asked = Asked(job["model_uri"], [Row(**row) for row in job["rows"]], job["seed"])
    send({"load_s": asked.load_s})
    for line in sys.stdin:
        turn = json.loads(line)
        if "end" in turn:
            _end(asked, send)
            return
        for position in range(*turn["answer"]):
            send({"answer": dataclasses.asdict(asked.answer(position))})


def _main() -> None:
    end_with_parent()
    stream = take_stdout()
    try:
        _serve(
            json.loads(Path(sys.argv[1]).read_text()),
            lambda message: print(json.dumps(message), file=stream, flush=True),
        )
    except UserError as fault:
        sys.exit(str(fault))


if __name__ == "__main__":
    _main()
