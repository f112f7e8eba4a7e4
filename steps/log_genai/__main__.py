"""Log the ONNX model as an MLflow model that ONNX Runtime GenAI runs.

mlflow run . -e log_genai --env-manager uv -P target=cpu_int8 -P log_genai.interface=prompt
python -m steps.log_genai target=cpu_int8 log_genai.interface=prompt
"""

from steps.common import console
from steps.common.model_provenance import Provenance, Source
from steps.common.step import Step, run_step
from steps.convert.result import OnnxModel
from steps.fetch.result import Weights
from steps.log_genai import pyfunc
from steps.log_genai.result import GenaiModel


def log_genai(step: Step) -> GenaiModel:
    """Make sure of the ONNX model and its weights, and log it under a chat or prompt signature."""
    onnx, weights = step.ensure(OnnxModel), step.ensure(Weights)
    config = step.config
    provenance = Provenance.of(
        GenaiModel,
        config,
        Source.of(weights),
        Source.of(onnx, folder=f"{pyfunc.ARTIFACTS}/{onnx.folder.name}"),
    )
    with console.working("logging the GenAI model"):
        return pyfunc.log(
            onnx.folder,
            provenance,
            model_name=config.model.name,
            interface=config.log_genai.interface,
            generation=config.generation,
            runtime=config.target.runtime,
        )


if __name__ == "__main__":
    run_step("log_genai", log_genai)
