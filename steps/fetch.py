"""Copy a checkpoint (weights, config, tokenizer) to the store, from the hub or a local folder.

mlflow run . -e fetch --env-manager uv -P model=smollm2_135m
python -m steps.fetch model=local model.path=/folder/of/the/model model.template=/a/template.jinja
"""

from pathlib import Path

import mlflow

from slmflow.checkpoints import (
    chat_template,
    end_tokens,
    files,
    generation_settings,
    hub_model,
    local_folder,
    tokenizer_files,
    unsafe_settings,
)
from slmflow.checkpoints.vocabulary import Vocabulary
from slmflow.config.schema.model import Model, Source
from slmflow.console import messages
from slmflow.paths import PROJECT
from slmflow.pipeline import store
from slmflow.pipeline.results import Weights
from slmflow.pipeline.step import Step, run_step


def fetch(step: Step) -> Weights:
    """Get the checkpoint from the store or fetch it, and log the size of its weights."""
    model = step.config.model
    entry = store.get_or_build(
        "weights", step.key(Weights), lambda folder: fetch_checkpoint(model, folder)
    )
    size_mb = sum(weights.stat().st_size for weights in entry.glob("*.safetensors")) / 1e6
    mlflow.log_metric("weights_size_mb", size_mb)
    messages.info(f"{model.name}: {size_mb:,.1f} MB of weights in {entry}")
    return Weights(path=str(entry))


def fetch_checkpoint(model: Model, folder: Path) -> None:
    """Copy the model's files to a folder and check them. Raises UserError if they are unusable.

    `model.template` becomes the chat template.
    """
    template = None if model.template is None else PROJECT / model.template
    if template is not None:
        chat_template.check_file(template, f"model.template={model.template!r}")
    match model:
        case Model(source=Source.hub, id=str(model_id), revision=str(revision)):
            repository = hub_model.repository(model_id, revision)
            name = repository.name
            for warning in hub_model.licence_warnings(model, repository):
                messages.warning(warning)
            hub_model.download(repository, folder)
        case _:
            name = f"model.path={model.path!r}"
            local_folder.copy(model.folder, folder, name)
    files.check(folder, name)
    unsafe_settings.check(folder, name)
    tokenizer_files.prepare(folder, name)
    if template is not None:
        had_one = chat_template.replace(folder, template)
        messages.info(
            f"{name} gets the chat template {template}" + (", in place of its own" * had_one)
        )
    chat_template.check(folder, name)
    if chat_template.is_missing(folder):
        messages.warning(
            f"{name} has no chat template, so it takes prompts and no messages: "
            "model.template=FILE gives it one"
        )
    vocabulary = Vocabulary.read(folder, name)
    generation_settings.check(folder, name, vocabulary.size)
    for warning in [*vocabulary.warnings(name), *end_tokens.complete(folder, name, vocabulary)]:
        messages.warning(warning)


if __name__ == "__main__":
    run_step("fetch", fetch)
