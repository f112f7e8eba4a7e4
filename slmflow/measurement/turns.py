"""Measure models side by side: each in a process of its own, in turns of a few rows.

A process of its own makes memory and load time the model's alone. A machine that is shared changes
its speed within seconds: in turns that hits all models alike. The order changes with every turn,
so that each is asked at every place, and none always after the same one.
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

from slmflow.console import messages
from slmflow.datasets.rows import Row
from slmflow.errors import UserError
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, Likelihood, Measurement
from slmflow.system import child_processes

_ROWS_PER_TURN = 8


Watch = Callable[[MeasuredModel, Sequence[Answer]], None]
"""What is told a model and its answers after each of its turns; raising ends the measuring."""


def measure(
    models: Sequence[MeasuredModel],
    rows: Sequence[Row],
    seed: int | None = None,
    watch: Watch = lambda model, answers: None,
) -> tuple[Measurement, ...]:
    """Return what `slmflow.measurement.worker` measures of each model, with progress bars meanwhile.

    All models are loaded, one after another, and stay so; one at a time computes. Their processes
    start together. `seed`: of the random choices of each answer. Raises UserError, naming the
    model and the last line of its error, where a process fails.
    """
    with messages.counting() as progress, ExitStack() as stack:
        workers = [stack.enter_context(_worker(model, rows, seed, progress)) for model in models]
        for worker in workers:
            worker.ready()
        for worker in workers:
            worker.load(len(rows))
        for turn, first in enumerate(range(0, len(rows), _ROWS_PER_TURN)):
            for worker in _order(workers, turn):
                worker.answer(first, min(first + _ROWS_PER_TURN, len(rows)))
                watch(worker.model, worker.answers)
        return tuple(worker.end() for worker in workers)


def _order(workers: Sequence["_Worker"], turn: int) -> list["_Worker"]:
    """Return the order of a turn: rotated by one more each time, and every other round reversed."""
    round_, first = divmod(turn, len(workers))
    rotated = [*workers[first:], *workers[:first]]
    return rotated[::-1] if round_ % 2 else rotated


class _Worker:
    """The process of one model: what it is told, what it tells, and how far it is."""

    def __init__(
        self, model: MeasuredModel, process: subprocess.Popen[str], log: Path, progress: Progress
    ) -> None:
        self.model = model
        self._process, self._log, self._progress = process, log, progress
        self.answers: list[Answer] = []
        self._tasks: dict[str, TaskID] = {}

    def ready(self) -> None:
        """Wait until the process has imported what it needs for any model."""
        self._next()

    def load(self, rows: int) -> None:
        """Have it load the model, and wait until that is warm."""
        self._tell(load=True)
        loading = self._progress.add_task(f"{self.model.flavor} loads", total=None)
        self._rows, self._load_s = rows, float(self._next()["load_s"])
        self._progress.update(loading, visible=False)

    def answer(self, first: int, end: int) -> None:
        """Have it answer the rows from the first to before the end."""
        self._tell(answer=[first, end])
        for _ in range(first, end):
            self.answers.append(Answer(**self._next()["answer"]))
            self._advance("answers")

    def end(self) -> Measurement:
        """Have it tell the rest, and return all."""
        self._tell(end=True)
        peak = self._next()["peak_rss_bytes"]
        likelihoods, choices = [], []
        while told := self._next(last=True):
            likelihoods.append(Likelihood(**told["likelihood"]))
            choices.append(None if told["choices"] is None else tuple(told["choices"]))
            self._advance("likelihoods")
        return Measurement(
            model=self.model,
            load_s=self._load_s,
            peak_rss_bytes=peak,
            answers=tuple(self.answers),
            likelihoods=tuple(likelihoods) or None,
            choices=tuple(choices) or None,
        )

    def _tell(self, **turn: Any) -> None:
        try:
            print(json.dumps(turn), file=self._process.stdin, flush=True)
        except BrokenPipeError:  # it has ended: the next line that is missing says why
            return

    def _next(self, *, last: bool = False) -> dict[str, Any]:
        """Return what it tells next; nothing where it has ended well and this may be the last."""
        if self._process.stdout and (line := self._process.stdout.readline()):
            return dict(json.loads(line))
        if (status := self._process.wait()) == 0 and last:
            return {}
        log = self._log.read_text(errors="replace")
        raise UserError(
            f"the {self.model.flavor} model {self.model.model_uri} could not be measured: "
            f"{child_processes.why_ended(status, log)}"
        ) from RuntimeError(log)

    def _advance(self, stage: str) -> None:
        if stage not in self._tasks:
            name = f"{self.model.flavor} {stage}"
            self._tasks[stage] = self._progress.add_task(name, total=self._rows)
        self._progress.advance(self._tasks[stage])


@contextmanager
def _worker(
    model: MeasuredModel, rows: Sequence[Row], seed: int | None, progress: Progress
) -> Iterator[_Worker]:
    """Start the process; its chatter goes to a log, and it ends with this."""
    job = {
        "model_uri": model.model_uri,
        "seed": seed,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    with tempfile.TemporaryDirectory() as folder:
        scratch, log = Path(folder), Path(folder, "log")
        (scratch / "job.json").write_text(json.dumps(job))
        environment = child_processes.environment(
            MLFLOW_TRACKING_URI=mlflow.get_tracking_uri(),
            TMPDIR=folder,  # a copy of a model from a remote server goes with this folder
        )
        with (
            log.open("w") as errors,
            subprocess.Popen(
                [sys.executable, "-m", "slmflow.measurement.worker", str(scratch / "job.json")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                text=True,
            ) as process,
        ):
            try:
                yield _Worker(model, process, log, progress)
            finally:
                process.kill()
