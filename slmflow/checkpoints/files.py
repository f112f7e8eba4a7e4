"""The files of a checkpoint: safetensors weights, config, tokenizer, model card and licence.

Files are selected by an allow-list, so pickles, scripts and files in subfolders are never copied.
The only subfolder is the one in which transformers 5 keeps further chat templates.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from slmflow.errors import UserError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
CHAT_TEMPLATE = "chat_template.jinja"
PROCESSOR_TEMPLATE = "chat_template.json"
TEMPLATES_FOLDER = "additional_chat_templates"

_SHARD = re.compile(r"[\w.-]+-\d+-of-\d+\.safetensors", re.ASCII)
_TOKENIZERS = frozenset({TOKENIZER, "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model"})
_SETTINGS = frozenset(
    {
        "generation_config.json",
        TOKENIZER_CONFIG,
        SPECIAL_TOKENS,
        "added_tokens.json",
        "merges.txt",
        PROCESSOR_TEMPLATE,
        CHAT_TEMPLATE,
    }
)
_TEMPLATE = re.compile(TEMPLATES_FOLDER + r"/\w[\w.-]*\.jinja", re.ASCII)
_DOCUMENTS = re.compile(r"(README|LICEN[CS]E|NOTICE|USE_POLICY)(\.(md|txt))?", re.IGNORECASE)
# On the hub the largest tokenizers have about 30 MB, the largest index 10 MB. Parsing a file takes
# a multiple of its size in memory.
_MAX_TOKENIZER_MB, _MAX_OTHER_MB = 100, 32
_NO_WEIGHTS = f"has no weights: {WEIGHTS}, or {INDEX} and the shards it names, are required"
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


def select(names: Collection[str], model: str) -> list[str]:
    """Return the file names that belong to the checkpoint; `model` is the name in messages.

    Raises UserError, with all missing files in one message, if they are not a checkpoint.
    """
    selected = sorted(name for name in names if _is_selected(name, sharded=WEIGHTS not in names))
    if problems := list(_missing_files(names, selected)):
        raise UserError("\n".join(f"{model} {problem}" for problem in problems))
    return selected


def has_tokenizer(names: Collection[str]) -> bool:
    """Return whether a vocabulary, which a checkpoint requires, is among the file names."""
    return not _TOKENIZERS.isdisjoint(names)


def check_sizes(sizes: Mapping[str, int], model: str) -> None:
    """Raise UserError for a file other than weights that is implausibly large.

    sizes: bytes by file name.
    """
    problems = []
    for name, size in sizes.items():
        max_mb = _MAX_TOKENIZER_MB if name in _TOKENIZERS else _MAX_OTHER_MB
        if not name.endswith(".safetensors") and size > max_mb * 1e6:
            problems.append(
                f"{name} of {model} has {size / 1e6:,.0f} MB, more than the limit of {max_mb}: "
                "do not trust this model"
            )
    if problems:
        raise UserError("\n".join(problems))


def check(folder: Path, model: str) -> None:
    """Raise UserError unless a folder of selected files has all weights and all are readable."""
    read_json_object(folder / CONFIG, model)
    for name in sorted(_SETTINGS):
        if name.endswith(".json") and (folder / name).exists():
            read_json_object(folder / name, model)
    for file in sorted({*weight_files(folder, model), *folder.glob("*.safetensors")}):
        with open_safetensors(file, model):
            pass


def weight_files(folder: Path, model: str) -> list[Path]:
    """Return the safetensors file of a checkpoint, or the shards that its index names.

    Raises UserError for files that are missing and for an index that is invalid or names files
    outside the folder.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        raise UserError(f"{model} {_NO_WEIGHTS}")
    weight_map = read_json_object(folder / INDEX, model).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{INDEX} of {model} has no weight_map: get the file again")
    shards = sorted({str(shard) for shard in weight_map.values()})
    for shard in shards:
        if not _SHARD.fullmatch(shard):
            raise UserError(
                f"{INDEX} of {model} names {shard!r}, which is not a shard such as "
                "model-00001-of-00002.safetensors beside it: do not trust this model"
            )
        if not (folder / shard).is_file():
            raise UserError(
                f"{model} lacks {shard}, which its {INDEX} names: choose a complete revision or "
                "copy"
            )
    return [folder / shard for shard in shards]


@contextmanager
def open_safetensors(file: Path, model: str) -> Iterator[Any]:
    """Open a file to read its header. Raises UserError if it is damaged."""
    try:
        with safe_open(file, framework="numpy") as opened:
            yield opened
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{file.name} of {model} is not a complete safetensors file ({error}): get it again "
            "(in a git clone, with `git lfs pull`)"
        ) from error


def _is_selected(name: str, *, sharded: bool) -> bool:
    """Return whether a name is on the allow-list; shards only if there is no single file."""
    if name == INDEX or _SHARD.fullmatch(name):
        return sharded
    is_known = name in (CONFIG, WEIGHTS) or name in _TOKENIZERS or name in _SETTINGS
    return is_known or any(each.fullmatch(name) for each in (_DOCUMENTS, _TEMPLATE))


def _missing_files(names: Collection[str], selected: Collection[str]) -> Iterator[str]:
    if CONFIG not in selected:
        yield f"has no {CONFIG}: give a whole model, not an adapter or a training checkpoint"
    if WEIGHTS not in selected and INDEX not in selected:
        if pickles := sorted(name for name in names if name.endswith(_PICKLES)):
            yield (
                f"has its weights only as pickles ({pickles[0]}), which can run code when loaded: "
                "choose a revision with safetensors, or save the model again with "
                "save_pretrained(safe_serialization=True)"
            )
        else:
            yield _NO_WEIGHTS
    if not has_tokenizer(selected):
        yield f"has no tokenizer: one of {', '.join(sorted(_TOKENIZERS))} is required"


def read_json_object(file: Path, model: str) -> dict[str, Any]:
    """Return the content of a JSON file. Raises UserError if it is no JSON object."""
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file.name} of {model} is not JSON ({error}): get it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{file.name} of {model} is not a JSON object: get the file again")
    return content


def write_json(file: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file as transformers does."""
    file.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")
