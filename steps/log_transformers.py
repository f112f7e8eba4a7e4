"""Log the checkpoint as an MLflow model of the transformers flavor.

mlflow run . -e log_transformers --env-manager uv -P generation=sampling
python -m steps.log_transformers generation=sampling
"""

from slmflow.checkpoints import chat_template
from slmflow.config.schema.adapters import AdapterMode
from slmflow.console import progress_bars
from slmflow.flavors import lineage, transformers_pipeline
from slmflow.flavors.provenance import Provenance, SourceEntry
from slmflow.pipeline import step_parts
from slmflow.pipeline.results import TransformersModel, Weights
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run_step


def log_transformers(step: Step) -> TransformersModel:
    """Ensure the checkpoint, and log it with its provenance and a chat or prompt signature."""
    weights = step.ensure(Weights)
    chat_template.check_variables(weights.folder, step.config.generation.template)
    is_merged = step.config.model.adapter_mode is AdapterMode.merge
    adapter = weights.adapter_folder if is_merged else None
    # With an adapter, the logged files are no copies of the store's.
    copied = None if adapter else transformers_pipeline.CHECKPOINT_FOLDER
    provenance = Provenance.collect(
        TransformersModel, step.config, *SourceEntry.of_weights(weights, folder=copied)
    )
    lineage.log_input(step.config.model)
    name = f"{step_parts.model_name(TransformersModel, step.config)} {TransformersModel.flavor}"
    with progress_bars.spinner("logging the transformers model"):
        return transformers_pipeline.log(
            weights.folder, provenance, step.config.generation, adapter, name
        )


if __name__ == "__main__":
    run_step("log_transformers", log_transformers)
