"""Log the ONNX model as an MLflow model that ONNX Runtime GenAI runs.

mlflow run . -e log_genai --env-manager uv -P target=cpu_int8 -P log_genai.interface=prompt
python -m steps.log_genai target=cpu_int8 log_genai.interface=prompt
"""

from slmflow.checkpoints import chat_template
from slmflow.console import progress_bars
from slmflow.flavors import genai_pyfunc, lineage
from slmflow.flavors.provenance import Provenance, SourceEntry
from slmflow.pipeline import step_parts
from slmflow.pipeline.results import GenaiModel, OnnxModel, Weights
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run_step


def log_genai(step: Step) -> GenaiModel:
    """Ensure the ONNX model, and log it with its provenance and a chat or prompt signature."""
    weights, config = step.ensure(Weights), step.config
    chat_template.check_variables(weights.folder, config.generation.template)
    onnx = step.ensure(OnnxModel)
    provenance = Provenance.collect(
        GenaiModel,
        config,
        *SourceEntry.of_weights(weights),
        SourceEntry.from_result(onnx, folder=f"{genai_pyfunc.ARTIFACTS_FOLDER}/{onnx.folder.name}"),
    )
    lineage.log_input(step.config.model)
    with progress_bars.spinner("logging the GenAI model"):
        return genai_pyfunc.log(
            onnx.folder,
            provenance,
            model_name=config.model.name,
            interface=config.log_genai.interface,
            generation=config.generation,
            runtime=config.target.runtime,
            name=step_parts.model_name(GenaiModel, config),
        )


if __name__ == "__main__":
    run_step("log_genai", log_genai)
