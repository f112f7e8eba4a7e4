"""What log_genai hands on."""

from dataclasses import dataclass
from typing import ClassVar

from slmflow.checkpoints.result import Weights
from slmflow.conversion.result import OnnxModel
from slmflow.pipeline.results import LoggedModel


@dataclass(frozen=True)
class GenaiModel(LoggedModel):
    """The custom pyfunc over ONNX Runtime GenAI."""

    flavor: ClassVar = "genai"
    step: ClassVar = "log_genai"
    reads: ClassVar = ("generation", "log_genai", "model.licence", "model.name", "target")
    consumes: ClassVar = (OnnxModel, Weights)
    packages: ClassVar = ("mlflow", "onnxruntime-genai")
