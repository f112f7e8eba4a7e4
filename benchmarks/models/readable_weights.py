"""Random weights with a tokenizer that has a text for every token id.

The bundled tokenizer has 1,024 tokens. A random model with a larger vocabulary mostly generates ids
beyond those, so its answers would be nearly empty and its streams would have few chunks.
"""

import json
import os
import shutil
from pathlib import Path

from benchmarks.models import stored_models
from benchmarks.models.shapes import SHAPES
from slmflow.pipeline import digests, entries, store

_TOKENIZER = "tokenizer.json"


def readable_weights(shape: str) -> Path:
    """Return a checkpoint of random weights of one of `SHAPES`."""
    plain = stored_models.random_weights(shape)
    key = stored_models.module_key(
        "models.readable_weights", ("tokenizers",), digests.of_path(plain)
    )
    return entries.get_or_build(
        "readable-weights", key, lambda folder: write(plain, folder, SHAPES[shape].vocabulary)
    )


def model_overrides(shape: str) -> list[str]:
    """Return the overrides of a step for this checkpoint as its model."""
    return ["model=local", f"model.path={readable_weights(shape)}", f"model.name={shape}"]


def write(plain: Path, folder: Path, vocabulary: int) -> None:
    """Write the files of a checkpoint with a tokenizer of `vocabulary` tokens into `folder`."""
    for file in plain.iterdir():
        if file.name == _TOKENIZER:
            tokenizer = extend_vocabulary(json.loads(file.read_text()), vocabulary)
            (folder / file.name).write_text(json.dumps(tokenizer))
        elif file.suffix == ".safetensors":
            os.link(file, folder / file.name)  # both are in the store
        elif file.name != store.MANIFEST:
            shutil.copyfile(file, folder / file.name)


def extend_vocabulary(tokenizer: dict[str, object], vocabulary: int) -> dict[str, object]:
    """Return a BPE tokenizer with a word for each missing id; texts are tokenized as before."""
    model, added = tokenizer["model"], tokenizer["added_tokens"]
    assert isinstance(model, dict) and isinstance(added, list)  # noqa: S101 (for the type checker)
    # Include special tokens, which would otherwise get new ids after the end of the vocabulary.
    existing = model["vocab"] | {token["content"]: token["id"] for token in added}
    missing = set(range(vocabulary)) - set(existing.values())
    words = {f"▁w{number}": number for number in sorted(missing)}
    return {**tokenizer, "model": {**model, "vocab": existing | words}}
