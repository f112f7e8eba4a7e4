"""Which files make a model: weights as safetensors, config, tokenizer, and its card and licence.

The list is of what is taken, so a pickle, a script or a file in a subfolder never is.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from slmflow.errors import UserError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_PART = re.compile(r"[\w.-]+-\d+-of-\d+\.safetensors", re.ASCII)
_TOKENIZERS = frozenset(
    {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model"}
)
_SETTINGS = frozenset(
    {
        "generation_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "merges.txt",
        "chat_template.json",
        "chat_template.jinja",
    }
)
_PAPERS = re.compile(r"(README|LICEN[CS]E|NOTICE|USE_POLICY)(\.(md|txt))?", re.IGNORECASE)
# The largest tokenizers of the hub have some 30 MB, the largest index 10. What is parsed takes a
# multiple of its size in memory.
_MOST_MB_TOKENIZER, _MOST_MB_OTHER = 100, 32
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


def choose(names: Collection[str], model: str) -> list[str]:
    """Return those of a model's file names that are taken; `model` is its name in messages.

    Raises UserError, with all that is missing in one message, where they do not make a model.
    """
    taken = sorted(name for name in names if _is_taken(name, whole=WEIGHTS in names))
    if lacks := list(_lacks(names, taken)):
        raise UserError("\n".join(f"{model} {lack}" for lack in lacks))
    return taken


def refuse_oversized(sizes: Mapping[str, int], model: str) -> None:
    """Raise UserError where a taken file that is no weights is larger than any that is real.

    sizes: bytes, by name.
    """
    problems = []
    for name, size in sizes.items():
        most_mb = _MOST_MB_TOKENIZER if name in _TOKENIZERS else _MOST_MB_OTHER
        if not name.endswith(".safetensors") and size > most_mb * 1e6:
            problems.append(
                f"{name} of {model} has {size / 1e6:,.0f} MB, where no model has more than "
                f"{most_mb}: do not trust this model"
            )
    if problems:
        raise UserError("\n".join(problems))


def check(folder: Path, model: str) -> None:
    """Raise UserError unless a folder of taken files holds all its weights, each file readable."""
    _read_object(folder / CONFIG, model)
    for settings in sorted(_SETTINGS):
        if settings.endswith(".json") and (folder / settings).exists():
            _read_object(folder / settings, model)
    if (folder / INDEX).exists():
        _check_index(folder, model)
    for file in sorted(folder.glob("*.safetensors")):
        _check_weights(file, model)


def _is_taken(name: str, *, whole: bool) -> bool:
    """Return whether a name is on the list; weights in one file make parts of them superfluous."""
    if name == INDEX or _PART.fullmatch(name):
        return not whole
    known = name in (CONFIG, WEIGHTS) or name in _TOKENIZERS or name in _SETTINGS
    return known or _PAPERS.fullmatch(name) is not None


def _lacks(names: Collection[str], taken: list[str]) -> Iterator[str]:
    if CONFIG not in taken:
        yield f"has no {CONFIG}: give a whole model, not an adapter or a checkpoint"
    if WEIGHTS not in taken and INDEX not in taken:
        if pickles := sorted(name for name in names if name.endswith(_PICKLES)):
            yield (
                f"has its weights only as pickles ({pickles[0]}), which can run code when they "
                "are loaded: choose a revision that has safetensors, or save the model anew with "
                "save_pretrained(safe_serialization=True)"
            )
        else:
            yield f"has no weights: {WEIGHTS}, or {INDEX} and the parts it lists, must be there"
    if _TOKENIZERS.isdisjoint(taken):
        yield (
            f"has no tokenizer: one of {', '.join(sorted(_TOKENIZERS))} must lie beside {CONFIG}"
        )


def _check_index(folder: Path, model: str) -> None:
    weight_map = _read_object(folder / INDEX, model).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{INDEX} of {model} has no weight_map: get the file anew")
    for part in sorted({str(part) for part in weight_map.values()}):
        if not _PART.fullmatch(part):
            raise UserError(
                f"{INDEX} of {model} names {part!r}, which is not a part such as "
                "model-00001-of-00002.safetensors beside it: do not trust this model"
            )
        if not (folder / part).is_file():
            raise UserError(
                f"{model} lacks {part}, which its {INDEX} names: choose a revision or copy "
                "that is complete"
            )


def _check_weights(file: Path, model: str) -> None:
    try:
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{file.name} of {model} is not a whole safetensors file ({error}): get it anew "
            "(in a git clone, with `git lfs pull`)"
        ) from error


def _read_object(file: Path, model: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file.name} of {model} is not JSON ({error}): get it anew") from error
    if not isinstance(content, dict):
        raise UserError(f"{file.name} of {model} is not a JSON object: get the file anew")
    return content
