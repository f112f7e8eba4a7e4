"""Copy an adapter to the store, from a folder, the hub or MLflow, and check it.

Files are selected by an allow-list, as those of a checkpoint: no pickles, no tokenizer.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from slmflow.checkpoints import files, local_folder, registry_model, tensors
from slmflow.checkpoints.adapters import merged_files
from slmflow.checkpoints.adapters.lora import WEIGHTS, LoraAdapter
from slmflow.checkpoints.adapters.lora_config import CONFIG
from slmflow.config.schema.adapters import AdapterMode, AdapterSource
from slmflow.config.schema.model import Model, Source
from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.hub import download as hub
from slmflow.hub.repository import AdapterRepository
from slmflow.paths import PROJECT

_DOCUMENTS = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE")


def fetch_all(
    model: Model, adapters: Mapping[str, AdapterSource], base: Path, folder: Path
) -> None:
    """Copy the adapter that is merged into `folder`, or separate ones into a folder each.

    adapters: of the model, by name; base: the base model's checkpoint. Raises UserError as `fetch`
    does.
    """
    for name, source in adapters.items():
        if model.adapter_mode is AdapterMode.separate:
            (folder / name).mkdir()
            fetch(source, base, folder / name, model)
        else:
            fetch(source, base, folder, model)


def fetch(source: AdapterSource, base: Path, folder: Path, model: Model) -> None:
    """Copy an adapter of a model into `folder`, and check that it fits the base model.

    Raises UserError if the adapter is unusable or not supported.
    """
    if source.revision is not None:
        _download(source, source.revision, folder)
    elif source.is_in_mlflow:
        registry_model.download_adapter(source.key, source.source, select, folder)
    else:
        local_folder.copy(PROJECT / source.source, folder, source.name, select)
    adapter = check(folder, base, source.name)
    for warning in _warnings(adapter, model):
        messages.warning(warning)


def check(folder: Path, base: Path, name: str) -> LoraAdapter:
    """Return the adapter in a folder. Raises UserError if it does not fit the base checkpoint.

    name: of the adapter, for messages.
    """
    adapter = LoraAdapter.read(folder, name)
    merged_files.adapted_weights(tensors.read_headers(base), adapter)
    adapter.check_values()
    return adapter


def select(names: Collection[str], model: str) -> list[str]:
    """Return the file names that belong to an adapter; `model` is its name in messages.

    Raises UserError if there is no adapter.
    """
    if CONFIG not in names:
        raise UserError(f"{model} has no {CONFIG}: give an adapter as peft saves it")
    if WEIGHTS not in names:
        pickles = "adapter_model.bin" in names
        advice = (
            "its matrices are a pickle (adapter_model.bin), which can run code when loaded: save "
            "it again with save_pretrained(safe_serialization=True)"
            if pickles
            else "give an adapter as peft saves it"
        )
        raise UserError(f"{model} has no {WEIGHTS}: {advice}")
    return [name for name in (CONFIG, WEIGHTS, *_DOCUMENTS) if name in names]


def _download(source: AdapterSource, revision: str, folder: Path) -> None:
    advice = f"use a folder ({source.key}=PATH)"
    repository = AdapterRepository(
        "model", source.source, revision, source.key, advice, source.revision_key
    )

    def select_files(sizes: Mapping[str, int]) -> list[str]:
        names = select(sizes, repository.name)
        files.check_sizes({name: sizes[name] for name in names}, repository.name)
        return names

    messages.warning(
        f"the licence of {repository.name} is not checked: read {repository.page} before you use it"
    )
    hub.download(repository, select_files, folder)


def _warnings(adapter: LoraAdapter, model: Model) -> Iterator[str]:
    """Yield a warning if the adapter names another base model on the hub."""
    trained_on = adapter.config.base_model
    if model.source is Source.hub and trained_on not in (None, model.id):
        yield (
            f"{adapter.name} was trained on {str(trained_on)[:200]!r}, but model.id is {model.id!r}"
        )
