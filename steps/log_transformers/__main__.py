"""Log the weights as an MLflow model of the transformers flavor.

mlflow run . -e log_transformers --env-manager uv -P generation=sampling
python -m steps.log_transformers generation=sampling
"""

from steps.common import console
from steps.common.model_provenance import Provenance, Source
from steps.common.step import Step, run_step
from steps.fetch.result import Weights
from steps.log_transformers import pipeline
from steps.log_transformers.result import TransformersModel


def log_transformers(step: Step) -> TransformersModel:
    """Make sure of the weights and log them under the chat signature."""
    weights = step.ensure(Weights)
    provenance = Provenance.of(
        TransformersModel, step.config, Source.of(weights, folder=pipeline.CHECKPOINT)
    )
    with console.working("logging the transformers model"):
        return pipeline.log(weights.folder, provenance, step.config.generation)


if __name__ == "__main__":
    run_step("log_transformers", log_transformers)
