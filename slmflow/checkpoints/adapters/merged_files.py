"""Merge an adapter into the safetensors files of a checkpoint, one tensor in memory at a time.

Adapted weights become float32, the precision in which they are merged: rounded to 16 bits, much of
what an adapter adds would be lost.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from slmflow.checkpoints import files
from slmflow.checkpoints.adapters.lora import LoraAdapter
from slmflow.checkpoints.safetensors_files import (
    METADATA,
    copy_range,
    encode_header,
    read_header,
)
from slmflow.checkpoints.tensors import TensorHeader, read_chunks, read_headers


def merge(folder: Path, adapter: LoraAdapter) -> None:
    """Merge an adapter into the weights of a checkpoint, in place, one file after the other.

    Needs room on disk for the largest file, adapted tensors in float32. Raises UserError for an
    adapter that does not fit.
    """
    headers = read_headers(folder)
    paths = {tensor: path for path, tensor in adapted_weights(headers, adapter).items()}
    grown = 0
    for file in files.weight_files(folder, str(folder)):
        merged = file.with_name(f"{file.name}.merging")
        before = file.stat().st_size
        if _write_merged(file, merged, headers, paths, adapter):
            grown += merged.stat().st_size - before
            merged.replace(file)
    _correct_index(folder, grown)


def adapted_weights(headers: Mapping[str, TensorHeader], adapter: LoraAdapter) -> dict[str, str]:
    """Return the name in the files of the weight of each adapted module.

    Raises UserError for an adapter that does not fit the checkpoint.
    """
    names = weight_names(headers, adapter.modules)
    shapes = {f"{path}.weight": headers[tensor].shape for path, tensor in names.items()}
    adapter.check_base(shapes, "the base model")
    return names


def weight_names(headers: Mapping[str, TensorHeader], modules: Collection[str]) -> dict[str, str]:
    """Return the name in the files of the weight of each module; those that are missing are not.

    A checkpoint may have been saved from the base model alone, or be the language model of a
    multimodal one.
    """
    names = {}
    for path in modules:
        first, _, rest = path.partition(".")
        candidates = [f"{path}.weight", f"{first}.language_model.{rest}.weight"]
        if not any(name.startswith(f"{first}.") for name in headers):
            candidates.append(f"{rest}.weight")
        if found := next((name for name in candidates if name in headers), None):
            names[path] = found
    return names


def _write_merged(
    source: Path,
    target: Path,
    headers: Mapping[str, TensorHeader],
    paths: Mapping[str, str],
    adapter: LoraAdapter,
) -> bool:
    """Write a file with the adapter merged into it; return whether it has adapted tensors.

    paths: of the adapted modules, by the name of their tensor.
    """
    with source.open("rb") as reader:
        header, start = read_header(reader)
        if paths.keys().isdisjoint(header):
            return False
        order = sorted(header.keys() - {METADATA}, key=lambda name: header[name]["data_offsets"])
        with target.open("wb") as writer:
            writer.write(_merged_header(header, order, paths))
            for name in order:
                if name in paths:
                    for rows, chunk in read_chunks(headers[name]):
                        weight = chunk.to(torch.float32)
                        adapter.add_to(paths[name], weight, rows)
                        writer.write(weight.contiguous().numpy().data)
                else:
                    first, end = header[name]["data_offsets"]
                    copy_range(reader, writer, start + first, end - first)
    return True


def _merged_header(header: Mapping[str, Any], order: list[str], paths: Mapping[str, str]) -> bytes:
    """Return the first bytes of the merged file."""
    merged: dict[str, Any] = {METADATA: header.get(METADATA, {"format": "pt"})}
    end = 0
    for name in order:
        entry = dict(header[name])
        first, last = entry["data_offsets"]
        size = last - first
        if name in paths:
            entry["dtype"] = "F32"
            size = 4 * torch.Size(entry["shape"]).numel()
        entry["data_offsets"] = [end, end + size]
        merged[name] = entry
        end += size
    return encode_header(merged)


def _correct_index(folder: Path, grown: int) -> None:
    """Correct the total size in the index of a checkpoint in shards."""
    file = folder / files.INDEX
    if not file.is_file():
        return
    index = files.read_json_object(file, str(folder))
    metadata = index.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("total_size"), int):
        metadata["total_size"] += grown
        files.write_json(file, index)
