"""What log_genai hands on."""

from dataclasses import dataclass
from typing import ClassVar

from steps.common.results import LoggedModel
from steps.convert.result import OnnxModel


@dataclass(frozen=True)
class GenaiModel(LoggedModel):
    """The custom pyfunc over ONNX Runtime GenAI."""

    flavor: ClassVar = "genai"
    step: ClassVar = "log_genai"
    reads: ClassVar = ("generation", "log_genai", "model.name", "target")
    consumes: ClassVar = (OnnxModel,)
    packages: ClassVar = ("mlflow", "onnxruntime-genai")
