"""Measure one MLflow model: `python -m slmflow.measurement.worker`, a child of `interleaved`.

Standard input and output carry one JSON object per line. Output starts with {"ready": true} after
the imports. The commands, "load" first, and their replies:

    {"load": {"model_uri": "models:/m-...", "seed": 0, "warm_up": [0, 1],
              "rows": [{"messages": [...], "answer": "..."}, ...]}}
                            {"load_s": 0.5}: the model is loaded and warm
    {"time": [0, 8]}        {"row": 0, "answer": {...}, "timing": {...}} for each row, one by one
    {"peak_rss": true}      {"peak_rss_bytes": ...}
    {"answer": [1, 2]}      {"row": 2, "answer": {...}} for each row, in any order
    {"answer_alone": [1]}   the same, each row by a request of its own
    {"score": [1, 2]}       {"row": 2, "likelihood": {...}, "choices": [-0.5, ...]} for each row, in
                            any order; one {"row": null} instead if the model cannot score texts

It ends when its input ends. Output of libraries goes to standard error.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import mlflow
from mlflow.pyfunc import PyFuncModel

from slmflow.datasets.rows import Row
from slmflow.errors import UserError
from slmflow.flavors.unknown_tokens import install_check
from slmflow.measurement.answers.session import SessionAnswerer, speaks_protocol
from slmflow.measurement.answers.single import SingleAnswerer
from slmflow.measurement.scoring.likelihood import score_rows
from slmflow.system.child_processes import claim_stdout, terminate_with_parent
from slmflow.system.memory import peak_rss_bytes

Reply = dict[str, Any]


class WorkerModel:
    """A loaded model that carries out commands on rows, given by their numbers."""

    def __init__(
        self, model_uri: str, rows: list[Row], seed: int | None, warm_up: list[int]
    ) -> None:
        """Load the model and warm it up with some rows; `load_s` is the load time in seconds."""
        folder = mlflow.artifacts.download_artifacts(model_uri)  # keeps the network out of load_s
        started = time.perf_counter()
        self._model = mlflow.pyfunc.load_model(folder)
        self.load_s = time.perf_counter() - started
        install_check(self._model)
        self._rows = rows
        self._answerer = _create_answerer(self._model, seed)
        for number in warm_up:
            self._answerer.warm_up(rows[number])

    def time(self, numbers: list[int]) -> Iterator[Reply]:
        """Time the rows one by one."""
        for number in numbers:
            answer, timing = self._answerer.time(number, self._rows[number])
            timed = timing and dataclasses.asdict(timing)
            yield {"row": number, "answer": dataclasses.asdict(answer), "timing": timed}

    def answer(self, numbers: list[int]) -> Iterator[Reply]:
        """Answer the rows, several at once where the model can."""
        for number, answer in self._answerer.answer({n: self._rows[n] for n in numbers}):
            yield {"row": number, "answer": dataclasses.asdict(answer)}

    def answer_alone(self, numbers: list[int]) -> Iterator[Reply]:
        """Answer each row by a request of its own."""
        for number in numbers:
            answer = self._answerer.answer_alone(self._rows[number])
            yield {"row": number, "answer": dataclasses.asdict(answer)}

    def score(self, numbers: list[int]) -> Iterator[Reply]:
        """Compute the likelihoods of the rows' expected answers and choices."""
        scores = score_rows(self._model, {number: self._rows[number] for number in numbers})
        if scores is None:
            yield {"row": None}
            return
        for number, likelihood, choices in scores:
            yield {"row": number, "likelihood": dataclasses.asdict(likelihood), "choices": choices}

    def peak_rss(self, _: bool) -> Iterator[Reply]:
        """Report the peak memory of this process so far."""
        yield {"peak_rss_bytes": peak_rss_bytes()}


def _create_answerer(model: PyFuncModel, seed: int | None) -> SingleAnswerer:
    if "transformers" in model.metadata.flavors:
        # Imported late, to keep torch out of the other flavor's memory.
        from slmflow.measurement.answers.pipeline import PipelineAnswerer

        return PipelineAnswerer(model, seed)
    answerer = SessionAnswerer if speaks_protocol(model) else SingleAnswerer
    return answerer(model, seed)


def _serve(send: Callable[[Reply], None]) -> None:
    send({"ready": True})
    if not (first := sys.stdin.readline()):
        return
    job = json.loads(first)["load"]
    rows = [Row(**row) for row in job["rows"]]
    model = WorkerModel(job["model_uri"], rows, job["seed"], job["warm_up"])
    send({"load_s": model.load_s})
    commands: dict[str, Callable[[Any], Iterator[Reply]]] = {
        "time": model.time,
        "answer": model.answer,
        "answer_alone": model.answer_alone,
        "score": model.score,
        "peak_rss": model.peak_rss,
    }
    for line in sys.stdin:
        [(name, argument)] = json.loads(line).items()
        for reply in commands[name](argument):
            send(reply)


def _main() -> None:
    terminate_with_parent()
    stdout = claim_stdout()
    try:
        _serve(lambda message: print(json.dumps(message), file=stdout, flush=True))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _main()
