"""Make tokenizer.json what every reader of a checkpoint uses.

The GenAI flavor reads tokenizer.json as it is. transformers 5 selects a class by the names in
config.json and tokenizer_config.json, and some classes, such as Llama's, GPT-2's and Gemma's, keep
only the vocabulary and rebuild the rest, which can give other ids.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from tokenizers import Tokenizer

from slmflow.checkpoints.files import (
    CHAT_TEMPLATE,
    TEMPLATES_FOLDER,
    TOKENIZER,
    TOKENIZER_CONFIG,
    read_json_object,
    write_json,
)
from slmflow.console import messages
from slmflow.console.library_output import silence
from slmflow.errors import UserError

_SENTENCEPIECE = "tokenizer.model"
_PLAIN_CLASS = "TokenizersBackend"
# A chat template may write these tokens.
_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")
_PARTS = ("normalizer", "pre_tokenizer", "model", "decoder", "added_tokens")


def prepare(folder: Path, model: str) -> None:
    """Complete the tokenizer's files, so that all readers get the same; `model` is for messages.

    tokenizer.json: made from a SentencePiece file or a vocabulary where it is missing, and extended
    by the tokens that only the settings name. tokenizer_config.json: names the special tokens, and
    the class that reads tokenizer.json as it is, if the model's own class would not. Raises
    UserError for a tokenizer that transformers cannot read.
    """
    if not (folder / TOKENIZER).is_file():
        _write_tokenizer(folder, model)
    with silence(), honor_declared_class():
        try:
            declared = _load(folder, model, plain=False)
            _name_special_tokens(folder, model, declared)
        except UserError:
            declared = None
        plain = _load(folder, model, plain=True)
    pipeline = _pipeline(plain.backend_tokenizer)
    if pipeline != _pipeline(Tokenizer.from_file(str(folder / TOKENIZER))):
        plain.backend_tokenizer.save(str(folder / TOKENIZER))  # with the tokens of the settings
    if problem := _describe_other_reading(declared, plain, pipeline):
        _change_settings(folder, model, tokenizer_class=_PLAIN_CLASS)
        messages.info(
            f"{model}: {problem}, so {TOKENIZER_CONFIG} in slmflow's copy names {_PLAIN_CLASS}, "
            "which reads the file as it is"
        )


def copy(source: Path, target: Path) -> None:
    """Copy the tokenizer's files and the chat templates of a checkpoint to a folder."""
    for name in (TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    if (source / TEMPLATES_FOLDER).is_dir():
        shutil.copytree(source / TEMPLATES_FOLDER, target / TEMPLATES_FOLDER, dirs_exist_ok=True)


def load(folder: Path) -> Any:
    """Load transformers' tokenizer of a prepared checkpoint, as its tokenizer.json describes it."""
    return _from_pretrained(folder, plain=True)


@contextmanager
def honor_declared_class() -> Iterator[None]:
    """Let AutoTokenizer follow tokenizer_class for all types of models.

    transformers ignores it for some, Qwen2 among them, because checkpoints on the hub are wrong.
    """
    from transformers.models.auto import tokenization_auto

    with mock.patch.object(tokenization_auto, "MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS", set()):
        yield


def _write_tokenizer(folder: Path, model: str) -> None:
    """Write tokenizer.json for a checkpoint without one."""
    if not (file := folder / _SENTENCEPIECE).is_file():
        with silence():
            tokenizer = _load(folder, model, plain=False).backend_tokenizer
    else:
        # Imported here, because few checkpoints need it.
        from slmflow.checkpoints import sentencepiece_model

        settings = _read_settings(folder, model)
        tokenizer = sentencepiece_model.convert(file, settings, model)
        named = sentencepiece_model.special_tokens(file, model)
        _change_settings(folder, model, **{key: named[key] for key in named.keys() - settings})
    tokenizer.save(str(folder / TOKENIZER))
    messages.info(f"{model} has no {TOKENIZER}: made from its vocabulary")


def _load(folder: Path, model: str, *, plain: bool) -> Any:
    """Load by the class that reads the files as they are, or by the one that the settings name."""
    try:
        tokenizer = _from_pretrained(folder, plain=plain)
        _ = tokenizer.backend_tokenizer  # of the library `tokenizers`
    except Exception as error:  # tokenizers raises nothing more specific
        reason = (str(error) or repr(error)).splitlines()[0][:200]
        raise UserError(
            f"transformers cannot read the tokenizer of {model}: {reason}. Check {TOKENIZER} and "
            f"{TOKENIZER_CONFIG}, or save the tokenizer again with transformers"
        ) from error
    return tokenizer


def _from_pretrained(folder: Path, *, plain: bool) -> Any:
    from transformers import AutoTokenizer, TokenizersBackend

    loader = TokenizersBackend if plain else AutoTokenizer
    return loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _name_special_tokens(folder: Path, model: str, declared: Any) -> None:
    """Write into the settings what special_tokens_map.json or the class adds to them."""
    settings = _read_settings(folder, model)
    vocabulary = declared.get_vocab()
    missing = {
        name: token
        for name, token in declared.special_tokens_map.items()
        if name in _NAMED_TOKENS and settings.get(name) is None and token in vocabulary
    }
    if missing:
        _change_settings(folder, model, **missing)


def _describe_other_reading(declared: Any, plain: Any, pipeline: dict[str, Any]) -> str | None:
    """Return how the declared class reads tokenizer.json, or None if it reads the same."""
    if declared is None:
        return f"transformers cannot read {TOKENIZER} by the class of the model"
    if type(declared) is type(plain):
        return None
    other = _pipeline(declared.backend_tokenizer)
    parts = [part.replace("_", " ") for part in _PARTS if other[part] != pipeline[part]]
    if not parts and declared("a").input_ids != plain("a").input_ids:
        parts = ["post processor"]
    name = type(declared).__name__
    listed = ", ".join(parts)
    return f"transformers' {name} would replace the {listed} of {TOKENIZER}" if parts else None


def _pipeline(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return what a tokenizer does to a text, without settings that change nothing."""
    parts = json.loads(tokenizer.to_str())
    pipeline = {part: parts[part] for part in _PARTS}
    pipeline["pre_tokenizer"] = _without_offsets(parts["pre_tokenizer"])
    if parts["decoder"] and parts["decoder"]["type"] == "ByteLevel":
        pipeline["decoder"] = "ByteLevel"  # its settings are those of the pre-tokenizer
    pipeline["model"] = {key: value or None for key, value in parts["model"].items()}
    return pipeline


def _without_offsets(part: Any) -> Any:
    """Return a pre-tokenizer without `trim_offsets`, which changes neither text nor ids."""
    if isinstance(part, list):
        return [_without_offsets(each) for each in part]
    if isinstance(part, dict):
        return {key: _without_offsets(each) for key, each in part.items() if key != "trim_offsets"}
    return part


def _read_settings(folder: Path, model: str) -> dict[str, Any]:
    file = folder / TOKENIZER_CONFIG
    return read_json_object(file, model) if file.is_file() else {}


def _change_settings(folder: Path, model: str, **changes: Any) -> None:
    write_json(folder / TOKENIZER_CONFIG, _read_settings(folder, model) | changes)
