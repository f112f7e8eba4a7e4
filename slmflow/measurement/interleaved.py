"""Measure models side by side: each in its own process, in alternating turns of a few rows.

With its own process, memory and load time are the model's alone. The speed of a shared machine
changes within seconds; alternating turns spread such changes over all models. The order changes
with every turn, so that each model takes every position and follows every other.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import mlflow
from rich.progress import Progress, TaskID

from slmflow.console import messages, progress_bars
from slmflow.datasets.rows import Row
from slmflow.errors import UserError
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, Likelihood, Measurement
from slmflow.system import child_processes

_ROWS_PER_TURN = 8


TurnCallback = Callable[[MeasuredModel, Sequence[Answer]], None]
"""Receives a model and all its answers after each of its turns; an exception ends measuring."""


def measure(
    models: Sequence[MeasuredModel],
    rows: Sequence[Row],
    seed: int | None = None,
    on_turn: TurnCallback = lambda model, answers: None,
) -> tuple[Measurement, ...]:
    """Measure each model on all rows, with progress bars.

    The worker processes start together. They load their models one after another and keep them
    loaded; only one computes at a time. seed: the sampling seed of each answer. Rows that a model
    rejects are named in a warning and kept with their errors. Raises UserError with the model and
    the last line of its error if a process fails, and if a model rejects all rows.
    """
    with progress_bars.item_bar() as progress, ExitStack() as stack:
        workers = [stack.enter_context(_start(model, rows, seed, progress)) for model in models]
        for worker in workers:
            worker.wait_until_ready()
        for worker in workers:
            worker.load(len(rows))
        for turn, first in enumerate(range(0, len(rows), _ROWS_PER_TURN)):
            for worker in _turn_order(workers, turn):
                worker.answer(first, min(first + _ROWS_PER_TURN, len(rows)))
                on_turn(worker.model, worker.answers)
        measurements = tuple(worker.finish() for worker in workers)
    for measurement in measurements:
        _report_rejected(measurement)
    return measurements


def _report_rejected(measurement: Measurement) -> None:
    """Warn of rows that the model rejected. Raises UserError if it rejected all."""
    errors = {row: each.error for row, each in enumerate(measurement.answers, 1) if each.error}
    if not errors:
        return
    row, error = next(iter(errors.items()))
    model, rows = measurement.model, len(measurement.answers)
    if len(errors) == rows:
        raise UserError(
            f"the {model.flavor} model {model.model_uri} rejected all rows: row {row}: {error}"
        )
    messages.warning(
        f"the {model.flavor} model rejected {len(errors)} of {rows} rows, which count as wrong "
        f"answers: row {row}: {error}"
    )


def _turn_order(workers: Sequence["_Worker"], turn: int) -> list["_Worker"]:
    """Return the order of a turn: rotated by one each turn, reversed in every other round."""
    round_, first = divmod(turn, len(workers))
    rotated = [*workers[first:], *workers[:first]]
    return rotated[::-1] if round_ % 2 else rotated


class _Worker:
    """The parent's side of `slmflow.measurement.worker` for one model."""

    def __init__(
        self, model: MeasuredModel, process: subprocess.Popen[str], log: Path, progress: Progress
    ) -> None:
        self.model = model
        self._process, self._log, self._progress = process, log, progress
        self.answers: list[Answer] = []
        self._tasks: dict[str, TaskID] = {}

    def wait_until_ready(self) -> None:
        """Wait until the process has imported the libraries."""
        self._receive()

    def load(self, rows: int) -> None:
        """Load the model, and wait until it is warm."""
        self._send(load=True)
        task = self._progress.add_task(f"{self.model.flavor} loads", total=None)
        self._rows, self._load_s = rows, float(self._receive()["load_s"])
        self._progress.update(task, visible=False)

    def answer(self, first: int, end: int) -> None:
        """Answer the rows from `first` to before `end`."""
        self._send(answer=[first, end])
        for _ in range(first, end):
            self.answers.append(Answer(**self._receive()["answer"]))
            self._advance("answers")

    def finish(self) -> Measurement:
        """Request peak memory and likelihoods, and return the measurement."""
        self._send(end=True)
        peak_rss_bytes = self._receive()["peak_rss_bytes"]
        likelihoods, choice_logprobs = [], []
        while message := self._receive(may_end=True):
            likelihoods.append(Likelihood(**message["likelihood"]))
            logprobs = message["choice_logprobs"]
            choice_logprobs.append(None if logprobs is None else tuple(logprobs))
            self._advance("likelihoods")
        return Measurement(
            model=self.model,
            load_s=self._load_s,
            peak_rss_bytes=peak_rss_bytes,
            answers=tuple(self.answers),
            likelihoods=tuple(likelihoods) or None,
            choice_logprobs=tuple(choice_logprobs) or None,
        )

    def _send(self, **command: Any) -> None:
        try:
            print(json.dumps(command), file=self._process.stdin, flush=True)
        except BrokenPipeError:  # the process ended; the next _receive reports why
            return

    def _receive(self, *, may_end: bool = False) -> dict[str, Any]:
        """Return the next message; {} if the process ended with status 0 and may end here."""
        if self._process.stdout and (line := self._process.stdout.readline()):
            return dict(json.loads(line))
        if (status := self._process.wait()) == 0 and may_end:
            return {}
        log = self._log.read_text(errors="replace")
        raise UserError(
            f"the {self.model.flavor} model {self.model.model_uri} could not be measured: "
            f"{child_processes.describe_exit(status, log)}"
        ) from RuntimeError(log)

    def _advance(self, stage: str) -> None:
        if stage not in self._tasks:
            name = f"{self.model.flavor} {stage}"
            self._tasks[stage] = self._progress.add_task(name, total=self._rows)
        self._progress.advance(self._tasks[stage])


@contextmanager
def _start(
    model: MeasuredModel, rows: Sequence[Row], seed: int | None, progress: Progress
) -> Iterator[_Worker]:
    """Start the worker process of a model, with standard error in a log; kill it on exit."""
    job = {
        "model_uri": model.model_uri,
        "seed": seed,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    with tempfile.TemporaryDirectory() as folder:
        job_file, log = Path(folder, "job.json"), Path(folder, "log")
        job_file.write_text(json.dumps(job))
        environment = child_processes.environment(
            MLFLOW_TRACKING_URI=mlflow.get_tracking_uri(),
            TMPDIR=folder,  # a model downloaded from a remote server is deleted with this folder
        )
        with (
            log.open("w") as stderr,
            subprocess.Popen(
                [sys.executable, "-m", "slmflow.measurement.worker", str(job_file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                text=True,
            ) as process,
        ):
            try:
                yield _Worker(model, process, log, progress)
            finally:
                process.kill()
