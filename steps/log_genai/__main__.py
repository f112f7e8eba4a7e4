"""Log the ONNX model as an MLflow model that ONNX Runtime GenAI runs.

mlflow run . -e log_genai --env-manager uv -P target=cpu_int8 -P log_genai.interface=prompt
python -m steps.log_genai target=cpu_int8 log_genai.interface=prompt
"""

from steps.common import console
from steps.common.step import Step, run_step
from steps.convert.result import OnnxModel
from steps.log_genai import pyfunc
from steps.log_genai.result import GenaiModel


def log_genai(step: Step) -> GenaiModel:
    """Make sure of the ONNX model and log it under the chat or the prompt signature."""
    onnx = step.ensure(OnnxModel)
    config = step.config
    with console.working("logging the GenAI model"):
        return pyfunc.log(
            onnx.folder,
            model_name=config.model.name,
            interface=config.log_genai.interface,
            generation=config.generation,
            runtime=config.target.runtime,
        )


if __name__ == "__main__":
    run_step("log_genai", log_genai)
