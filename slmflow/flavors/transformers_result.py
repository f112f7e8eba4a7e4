"""What log_transformers hands on."""

from dataclasses import dataclass
from typing import ClassVar

from slmflow.checkpoints.result import Weights
from slmflow.pipeline.results import LoggedModel


@dataclass(frozen=True)
class TransformersModel(LoggedModel):
    """The transformers pipeline under `llm/v1/chat`."""

    flavor: ClassVar = "transformers"
    step: ClassVar = "log_transformers"
    reads: ClassVar = ("generation", "model.licence")
    consumes: ClassVar = (Weights,)
    packages: ClassVar = ("mlflow", "torch", "transformers")
