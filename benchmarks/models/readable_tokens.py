"""Random weights whose every token has a text, so that each of them is seen where text is compared.

The bundled tokenizer has 1,024 tokens. A random model of a larger vocabulary says mostly ids beyond
those: answers of little text, and streams of few pieces.
"""

import json
import os
import shutil
from pathlib import Path

from benchmarks.models import prepared
from benchmarks.models.shapes import SHAPES
from slmflow.pipeline import store

_TOKENIZER = "tokenizer.json"


def weights(shape: str) -> Path:
    """Return a snapshot folder of the random weights of one of `SHAPES`."""
    plain = prepared.weights(shape)
    key = prepared.module_key("models.readable_tokens", ("tokenizers",), store.digest(plain))
    return store.get_or_build(
        "worded-weights", key, lambda folder: write(plain, folder, SHAPES[shape].vocabulary)
    )


def write(plain: Path, folder: Path, vocabulary: int) -> None:
    """Fill `folder` with the files of a snapshot, and a tokenizer of `vocabulary` tokens."""
    for file in plain.iterdir():
        if file.name == _TOKENIZER:
            text = json.dumps(extended(json.loads(file.read_text()), vocabulary))
            (folder / file.name).write_text(text)
        elif file.suffix == ".safetensors":
            os.link(file, folder / file.name)  # both lie in the store
        elif file.name != store.MANIFEST:
            shutil.copyfile(file, folder / file.name)


def extended(tokenizer: dict[str, object], vocabulary: int) -> dict[str, object]:
    """Return a BPE tokenizer with a word for each id it lacks; texts are tokenized as before."""
    model, added = tokenizer["model"], tokenizer["added_tokens"]
    assert isinstance(model, dict) and isinstance(added, list)  # noqa: S101 (for the type checker)
    # Special tokens too: those that the vocabulary lacks would be numbered from its end on.
    known = model["vocab"] | {token["content"]: token["id"] for token in added}
    lacking = set(range(vocabulary)) - set(known.values())
    words = {f"▁w{number}": number for number in sorted(lacking)}
    return {**tokenizer, "model": {**model, "vocab": known | words}}
