"""Copy an adapter to the store, from a folder, the hub or MLflow, and check it.

Files are selected by an allow-list, as those of a checkpoint: no pickles, no tokenizer.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from slmflow.checkpoints import files, local_folder, registry_model, tensors
from slmflow.checkpoints.adapters import merged_files
from slmflow.checkpoints.adapters.lora import WEIGHTS, LoraAdapter
from slmflow.checkpoints.adapters.lora_config import CONFIG
from slmflow.config.schema.model import Model, Source, is_model_uri
from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.hub import download as hub
from slmflow.hub.repository import AdapterRepository
from slmflow.paths import PROJECT

_DOCUMENTS = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE")


def fetch(model: Model, base: Path, folder: Path) -> None:
    """Copy the adapter of a model into `folder`, and check that it fits the base model.

    base: the base model's checkpoint. Raises UserError if the adapter is unusable or not supported.
    """
    source = str(model.adapter)
    name = f"model.adapter={source!r}"
    if model.adapter_revision is not None:
        _download(source, model.adapter_revision, folder)
    elif is_model_uri(source):
        registry_model.download_adapter("model.adapter", source, select, folder)
    else:
        local_folder.copy(PROJECT / source, folder, name, select)
    adapter = check(folder, base, name)
    for warning in _warnings(adapter, model):
        messages.warning(warning)


def check(folder: Path, base: Path, name: str) -> LoraAdapter:
    """Return the adapter in a folder. Raises UserError if it does not fit the base checkpoint.

    name: of the adapter, for messages.
    """
    adapter = LoraAdapter.read(folder, name)
    headers = tensors.read_headers(base)
    shapes = {
        f"{path}.weight": headers[tensor].shape
        for path, tensor in merged_files.weight_names(headers, adapter.modules).items()
    }
    adapter.check_base(shapes, "the base model")
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


def _download(hub_id: str, revision: str, folder: Path) -> None:
    advice = "use a folder (model.adapter=PATH)"
    repository = AdapterRepository("model", hub_id, revision, "model", advice)

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
