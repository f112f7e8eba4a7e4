"""What convert hands on."""

from dataclasses import dataclass
from typing import ClassVar

from slmflow.checkpoints.result import Weights
from slmflow.pipeline.results import StoredResult


@dataclass(frozen=True)
class OnnxModel(StoredResult):
    """An ONNX model with genai_config.json and tokenizer: a folder the GenAI runtime loads."""

    step: ClassVar = "convert"
    reads: ClassVar = ("target", "exporter")
    consumes: ClassVar = (Weights,)
    packages: ClassVar = (
        "onnx",
        "onnxruntime",
        "onnxruntime-genai",
        "optimum",
        "optimum-onnx",
        "torch",
        "transformers",
    )
