"""What log_transformers hands on."""

from dataclasses import dataclass
from typing import ClassVar

from steps.common.results import LoggedModel
from steps.fetch.result import Weights


@dataclass(frozen=True)
class TransformersModel(LoggedModel):
    """The transformers pipeline under `llm/v1/chat`."""

    flavor: ClassVar = "transformers"
    step: ClassVar = "log_transformers"
    reads: ClassVar = ("generation", "model.licence")
    consumes: ClassVar = (Weights,)
    packages: ClassVar = ("mlflow", "torch", "transformers")
