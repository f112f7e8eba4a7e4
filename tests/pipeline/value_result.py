"""A result of a step for tests, and the run that a test has just made."""

from dataclasses import dataclass
from typing import ClassVar

from mlflow import MlflowClient
from mlflow.entities import Run

from slmflow.pipeline.results import Result


@dataclass(frozen=True)
class Value(Result):
    step: ClassVar = "fetch"
    reads: ClassVar = ("model",)

    value: int

    def check(self) -> None:
        pass


def last_run() -> Run:
    [run] = MlflowClient().search_runs(["0"], max_results=1)
    return run
