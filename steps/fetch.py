"""Copy a checkpoint (weights, config, tokenizer) to the store, from the hub, MLflow or a folder.

mlflow run . -e fetch --env-manager uv -P model=smollm2_135m
python -m steps.fetch model=local model.path=/folder/of/the/model model.template=/a/template.jinja
"""

from collections.abc import Mapping
from pathlib import Path

import mlflow

from slmflow.checkpoints import (
    chat_template,
    end_tokens,
    files,
    generation_settings,
    hub_model,
    injected_adapter,
    local_folder,
    tokenizer_files,
    unsafe_settings,
)
from slmflow.checkpoints.registry_model import RegistryModel
from slmflow.checkpoints.vocabulary import Vocabulary
from slmflow.config.schema.adapters import AdapterSource
from slmflow.config.schema.model import Model, Source
from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.flavors import lineage
from slmflow.paths import PROJECT
from slmflow.pipeline import entries
from slmflow.pipeline.keys import base_weights_key
from slmflow.pipeline.results import Weights
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run_step


def fetch(step: Step) -> Weights:
    """Get the checkpoint from the store or fetch it, and log the size of its weights."""
    model = step.config.model
    entry = entries.get_or_build(
        "weights",
        base_weights_key(step.config),
        lambda folder: fetch_checkpoint(model, folder),
        about={"model": model.name},
        anew=step.is_made_anew(Weights),
    )
    lineage.log_input(model)
    size_mb = sum(weights.stat().st_size for weights in entry.glob("*.safetensors")) / 1e6
    mlflow.log_metric("weights_size_mb", size_mb)
    messages.info(f"{model.name}: {size_mb:,.1f} MB of weights in {entry}")
    adapters = _adapters(model)
    if not adapters:
        return Weights(path=str(entry))
    # Imported here, because it imports torch, which takes seconds.
    from slmflow.checkpoints.adapters import sources

    key = step.key(Weights)
    folder = entries.get_or_build(
        "adapters",
        key,
        lambda folder: sources.fetch_all(model, adapters, entry, folder),
        about={"model": model.name, "adapter": ", ".join(adapters)},
        anew=step.is_made_anew(Weights),
    )
    messages.info(f"adapter {', '.join(adapters)}: in {folder}")
    return Weights(path=str(entry), adapter=f"adapters/{key}")


def _adapters(model: Model) -> Mapping[str, AdapterSource]:
    """Return the model's adapters by name. A model in MLflow may have one of its own.

    Raises UserError if it has one, and the config names others.
    """
    if model.uri is None or not RegistryModel.read(model.uri).has_adapter:
        return model.adapter_sources
    if model.adapter_sources:
        raise UserError(
            f"model.uri={model.uri!r} has an adapter of its own, so it takes no other: leave out "
            f"{', '.join(source.key for source in model.adapter_sources.values())}, or give its "
            "base model"
        )
    return {model.name: AdapterSource("model.uri", model.uri, None, "model.uri")}


def fetch_checkpoint(model: Model, folder: Path) -> None:
    """Copy the model's files to a folder and check them. Raises UserError if they are unusable.

    `model.template` becomes the chat template.
    """
    template = None if model.template is None else PROJECT / model.template
    if template is not None:
        chat_template.check_file(template, f"model.template={model.template!r}")
    has_adapter = False
    match model:
        case Model(source=Source.hub, id=str(model_id), revision=str(revision)):
            repository = hub_model.repository(model_id, revision)
            name = repository.name
            for warning in hub_model.licence_warnings(model, repository):
                messages.warning(warning)
            hub_model.download(repository, folder)
        case Model(source=Source.mlflow, uri=str(model_uri)):
            logged = RegistryModel.read(model_uri)
            name = logged.name
            if logged.unused:
                messages.info(
                    f"{name} was logged with {', '.join(logged.unused)}: the converted model does "
                    "not take this over; set generation.* in its place"
                )
            if (base := logged.base) is not None:
                for warning in hub_model.licence_warnings(model, base):
                    messages.warning(warning)
            logged.download(folder)
            has_adapter = logged.has_adapter
        case _:
            name = f"model.path={model.path!r}"
            local_folder.copy(model.folder, folder, name)
    files.check(folder, name)
    if has_adapter:
        injected_adapter.remove(folder, name)
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
