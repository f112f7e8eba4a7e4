"""What measure hands on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from slmflow.flavors.genai_result import GenaiModel
from slmflow.flavors.transformers_result import TransformersModel
from slmflow.measurement import unlogged_answers
from slmflow.measurement.records import Measurement, from_json, to_json
from slmflow.pipeline.results import Result, Stale, refuse_gone
from slmflow.system import machine

PACKAGES = ("mlflow", "onnxruntime", "onnxruntime-genai", "torch", "transformers")
"""What shapes an answer, or how long it takes."""

FILE = "measurements.json"


@dataclass(frozen=True)
class Measurements(Result):
    """Where the answers of each model to every row are kept: `measurements.json` of a run.

    machine: what they were measured on, by name, in words.
    """

    step: ClassVar = "measure"
    reads: ClassVar = (
        *("evaluation.data", "evaluation.dataset", "evaluation.columns", "evaluation.limit"),
        *("evaluation.system", "evaluation.template", "evaluation.examples"),
        *("evaluation.seed", "evaluation.model_uri"),
    )
    consumes: ClassVar = (TransformersModel, GenaiModel)
    packages: ClassVar = PACKAGES

    run_id: str
    machine: dict[str, str]

    @classmethod
    def log(cls, run: Run, key: str, measured: Sequence[Measurement]) -> Self:
        """Log the measurement of each model, the reference first, and the machine to a run.

        key: of measuring it, under which `unlogged` need not keep it any longer.
        """
        made_on = machine.facts(PACKAGES)
        mlflow.log_params({f"machine.{name}": told for name, told in made_on.items()})
        mlflow.log_dict(to_json(measured), FILE)
        unlogged_answers.drop(key)
        return cls(run.info.run_id, made_on)

    def check(self) -> None:
        """Raise Stale unless the run still has its answers, and who gave them is there."""
        try:
            measured = self.load()
        except (MlflowException, OSError) as error:
            raise Stale(f"the answers of run {self.run_id} are not there any more") from error
        for each in measured:
            refuse_gone(each.model.model_uri)

    def load(self) -> tuple[Measurement, ...]:
        """Return the measurement of each model, the reference first."""
        return from_json(mlflow.artifacts.load_dict(f"runs:/{self.run_id}/{FILE}"))
