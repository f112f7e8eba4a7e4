"""What evaluate hands on."""

from dataclasses import dataclass
from typing import ClassVar

import mlflow
from mlflow.exceptions import MlflowException

from steps.common.results import Result, Stale
from steps.log_genai.result import GenaiModel
from steps.log_transformers.result import TransformersModel


@dataclass(frozen=True)
class Evaluation(Result):
    """The comparison of both flavors, an artifact of the run it was measured in."""

    step: ClassVar = "evaluate"
    reads: ClassVar = ("evaluation", "generation")
    consumes: ClassVar = (TransformersModel, GenaiModel)
    packages: ClassVar = ("mlflow", "onnxruntime-genai", "torch", "transformers")

    run_id: str
    rows: int

    def check(self) -> None:
        """Raise Stale unless the run still has its comparison."""
        try:
            mlflow.artifacts.load_dict(f"runs:/{self.run_id}/comparison.json")
        except (MlflowException, OSError) as error:
            raise Stale(f"the comparison of run {self.run_id} is not there any more") from error
