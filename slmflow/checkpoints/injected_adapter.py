"""Restore the weights of a base model that was saved with peft's adapter in it.

MLflow saves the base model of an adapter as peft has changed it: `q_proj.weight` is called
`q_proj.base_layer.weight`, and the adapter's own tensors are beside it. transformers would not find
the weights under these names, and would fill the model with random numbers.
"""

from pathlib import Path

from slmflow.checkpoints import files, safetensors_files

_INSERTED = "base_layer"
_ADAPTER = "lora_"


def remove(folder: Path, model: str) -> None:
    """Rename the tensors of a checked checkpoint, and drop those of the adapter.

    model: the name in messages. Does nothing to a checkpoint without such names. Raises UserError
    if a file is missing or damaged.
    """
    names: set[str] = set()
    paths = files.weight_files(folder, model)
    for path in paths:
        with files.open_safetensors(path, model) as opened:
            names.update(opened.keys())
    if not any(_INSERTED in name.split(".") for name in names):
        return
    for path in paths:
        _rewrite(path)
    index = folder / files.INDEX
    if index.is_file():
        content = files.read_json_object(index, model)
        renamed = {_restored(name): file for name, file in content["weight_map"].items()}
        weight_map = {name: file for name, file in renamed.items() if name is not None}
        files.write_json(index, content | {"weight_map": weight_map})


def _restored(name: str) -> str | None:
    """Return the name in the base model; None for a tensor of the adapter."""
    parts = name.split(".")
    if any(part.startswith(_ADAPTER) for part in parts):
        return None
    return ".".join(part for part in parts if part != _INSERTED)


def _rewrite(path: Path) -> None:
    """Write a file again with its tensors renamed, one after another."""
    copy = path.with_suffix(".new")
    with path.open("rb") as source, copy.open("wb") as target:
        header, start = safetensors_files.read_header(source)
        metadata = header.pop(safetensors_files.METADATA, None)
        kept = {new: each for name, each in header.items() if (new := _restored(name))}
        places = [tuple(each["data_offsets"]) for each in kept.values()]
        end = 0
        for each in kept.values():
            first, last = each["data_offsets"]
            each["data_offsets"] = [end, end := end + last - first]
        described = {safetensors_files.METADATA: metadata} if metadata else {}
        target.write(safetensors_files.encode_header(described | kept))
        for first, last in places:
            safetensors_files.copy_range(source, target, start + first, last - first)
    copy.replace(path)
