"""The parent's side of `slmflow.measurement.worker`: start it, send commands, read replies."""

import dataclasses
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from slmflow.datasets.rows import Row
from slmflow.measurement import worker_job
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, Likelihood, RowScore, Timing

_WORKER = ("-m", "slmflow.measurement.worker")


class WorkerProcess:
    """A process that loads one model and measures it. UserError is raised if it fails."""

    model: MeasuredModel

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        """Talk to a started process, whose standard error is `log`; it has no model yet."""
        self._process, self._log = process, log
        self._job: dict[str, Any] = {}

    def assign(
        self, model: MeasuredModel, rows: Sequence[Row], seed: int | None, warm_up: Sequence[int]
    ) -> None:
        """Let the process measure a model; warm_up: the numbers of the rows of short requests."""
        self.model = model
        self._job = {
            "model_uri": model.model_uri,
            "seed": seed,
            "warm_up": list(warm_up),
            "rows": [dataclasses.asdict(row) for row in rows],
        }

    def wait_until_ready(self) -> None:
        """Wait until the process has imported the libraries."""
        self._receive()

    def load(self) -> float:
        """Load and warm up the model; return the load time in seconds."""
        self._send(load=self._job)
        return float(self._receive()["load_s"])

    def time(self, rows: Sequence[int]) -> Iterator[tuple[int, Answer, Timing | None]]:
        """Yield the rows, timed one by one; a rejected row has no timing."""
        for reply in self._replies(len(rows), time=rows):
            timing = reply["timing"] and Timing(**reply["timing"])
            yield reply["row"], Answer(**reply["answer"]), timing

    def answer(self, rows: Sequence[int], *, alone: bool = False) -> Iterator[tuple[int, Answer]]:
        """Yield the rows with their answers, in any order.

        alone: whether each row is a request of its own.
        """
        for reply in self._replies(len(rows), **{"answer_alone" if alone else "answer": rows}):
            yield reply["row"], Answer(**reply["answer"])

    def score(self, rows: Sequence[int]) -> Iterator[tuple[int, RowScore]]:
        """Yield the rows with their likelihoods, in any order; none if the model cannot score."""
        for reply in self._replies(len(rows), score=rows):
            if reply["row"] is None:
                return
            choices = reply["choices"]
            yield reply["row"], (Likelihood(**reply["likelihood"]), choices and tuple(choices))

    def peak_rss_bytes(self) -> int | None:
        """Return the peak memory of the process so far; None where it is not known."""
        self._send(peak_rss=True)
        peak: int | None = self._receive()["peak_rss_bytes"]
        return peak

    def end(self) -> None:
        """End the process, which frees its memory."""
        self._process.kill()
        self._process.wait()

    def _replies(self, count: int, **command: Any) -> Iterator[dict[str, Any]]:
        if count:
            self._send(**command)
        for _ in range(count):
            yield self._receive()

    def _send(self, **command: Any) -> None:
        try:
            print(json.dumps(command), file=self._process.stdin, flush=True)
        except BrokenPipeError:  # the process ended; the next _receive reports why
            return

    def _receive(self) -> dict[str, Any]:
        if self._process.stdout and (line := self._process.stdout.readline()):
            return dict(json.loads(line))
        worker_job.raise_failure(
            f"the {self.model.flavor} model {self.model.model_uri} could not be measured",
            self._process.wait(),
            self._log,
        )


@contextmanager
def start(count: int) -> Iterator[list[WorkerProcess]]:
    """Start processes, which import what they need, and kill them on exit.

    The standard error of each is in a log.
    """
    with ExitStack() as stack:
        started = [
            worker_job.start(_WORKER, None, stdin=subprocess.PIPE) for _ in range(max(0, count))
        ]
        yield [WorkerProcess(*stack.enter_context(each)) for each in started]
