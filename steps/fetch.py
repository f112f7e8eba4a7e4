"""Bring a model's weights, config and tokenizer into the store: from the hub or from a folder.

mlflow run . -e fetch --env-manager uv -P model=smollm2_135m
python -m steps.fetch model=local model.path=/folder/of/the/model
"""

from pathlib import Path

import mlflow

from slmflow.checkpoints import chat_template, files, hub_model, licence, local_folder
from slmflow.checkpoints.result import Weights
from slmflow.config.schema.model import Model, Source
from slmflow.console import messages
from slmflow.pipeline import store
from slmflow.pipeline.step import Step, run_step


def fetch(step: Step) -> Weights:
    """Bring the model into the store unless it is there, and log the size of its weights."""
    model = step.config.model
    entry = store.get_or_build(
        "weights", step.key(Weights), lambda building: bring(model, building)
    )
    size_mb = sum(weights.stat().st_size for weights in entry.glob("*.safetensors")) / 1e6
    mlflow.log_metric("weights_size_mb", size_mb)
    messages.say(f"{model.name}: {size_mb:,.1f} MB of weights in {entry}")
    return Weights(path=str(entry))


def bring(model: Model, building: Path) -> None:
    """Fill a folder with the model's files. Raises UserError where they are not to be had."""
    match model:
        case Model(source=Source.hub, id=str(model_id), revision=str(revision)):
            repository = hub_model.repository(model_id, revision)
            name = repository.name
            for caution in licence.cautions(model, repository):
                messages.warn(caution)
            hub_model.download(repository, building)
        case _:
            name = f"model.path={model.path!r}"
            local_folder.copy(model.folder, building, name)
    files.check(building, name)
    chat_template.check(building, name)


if __name__ == "__main__":
    run_step("fetch", fetch)
