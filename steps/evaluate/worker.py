"""Measure one MLflow model: `python -m steps.evaluate.worker JOB`, the child of `measure`.

JOB is a file: {"model_uri": "models:/m-...", "rows": [{"messages": [...], "answer": "..."}, ...]}.
Standard output is one JSON object a line: {"stage": "answers", "done": 12} whenever a row is done,
and at last {"measurement": {...}}, the fields of a Measurement. Whatever libraries print goes to
standard error.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import mlflow
from mlflow.pyfunc import PyFuncModel

from steps.common.child import take_stdout
from steps.common.errors import UserError
from steps.common.memory import peak_rss_bytes
from steps.common.rows import Row
from steps.evaluate.asking import Reply, ask, chats
from steps.evaluate.measurement import Answer, Measurement
from steps.evaluate.perplexity import perplexity, scorer

# Enough for a steady median; each of these rows costs a second prefill.
FIRST_TOKEN_ROWS = 32


class Channel:
    """The lines to the parent."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream

    def send(self, **fields: Any) -> None:
        """Send one JSON object."""
        print(json.dumps(fields), file=self._stream, flush=True)

    def counted(self, stage: str, rows: Sequence[Row]) -> Iterator[Row]:
        """Yield the rows, and tell the parent how many are done."""
        for done, row in enumerate(rows):
            self.send(stage=stage, done=done)
            yield row
        self.send(stage=stage, done=len(rows))


def measure(model_uri: str, rows: Sequence[Row], channel: Channel) -> Measurement:
    """Load a model, ask it every row, and score the reference answers with it."""
    folder = mlflow.artifacts.download_artifacts(model_uri)  # so that load_s has no network in it
    started = time.perf_counter()
    model = mlflow.pyfunc.load_model(folder)
    load_s = time.perf_counter() - started
    ask(model, rows[0].messages)  # the first answer also pays for what is set up lazily
    answers = tuple(
        _answer(model, row, time_first_token=position < FIRST_TOKEN_ROWS)
        for position, row in enumerate(channel.counted("answers", rows))
    )
    peak = peak_rss_bytes()  # before the scoring, which needs the logits of whole answers
    score = scorer(model)
    return Measurement(
        load_s=load_s,
        peak_rss_bytes=peak,
        perplexity=perplexity(score, channel.counted("scores", rows)) if score else None,
        answers=answers,
    )


def _answer(model: PyFuncModel, row: Row, *, time_first_token: bool) -> Answer:
    first_token_s = None
    if time_first_token and chats(model):
        _, first_token_s = _timed(model, row, max_tokens=1)
    reply, latency_s = _timed(model, row)
    return Answer(
        text=reply.text,
        latency_s=latency_s,
        first_token_s=first_token_s,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
    )


def _timed(model: PyFuncModel, row: Row, **options: Any) -> tuple[Reply, float]:
    started = time.perf_counter()
    reply = ask(model, row.messages, **options)
    return reply, time.perf_counter() - started


def _main() -> None:
    channel = Channel(take_stdout())
    job = json.loads(Path(sys.argv[1]).read_text())
    try:
        measurement = measure(job["model_uri"], [Row(**row) for row in job["rows"]], channel)
    except UserError as fault:
        sys.exit(str(fault))
    channel.send(measurement=dataclasses.asdict(measurement))


if __name__ == "__main__":
    _main()
