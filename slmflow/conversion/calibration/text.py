"""Calibration text and held-out text: read from files, and cut into windows of token ids."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slmflow.config.schema.calibration import BUNDLED_TEXT, MIN_TOKENS, Calibration
from slmflow.config.schema.target import Target
from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.paths import PROJECT, is_file, is_folder

_SUFFIX = ".txt"

# Text for many more tokens than calibration may use. Of more text, only a part is read.
_MAX_CHARACTERS = 4 * 10**6
_MIN_CHARACTERS = 8 * 10**3  # of one file, where a part of a folder's is read

_SEPARATOR = "\n\n"


def read(path: Path, key: str) -> list[str]:
    """Return the text of a file, or of each .txt file of a folder in alphabetical order.

    Of more than 4 million characters, each file gives its share, from its beginning; of a folder
    of very many files, every n-th. key: of the configuration that the path comes from. Raises
    UserError for a missing path, a folder without .txt files, a link out of the folder, and a file
    that is blank or cannot be read as UTF-8.
    """
    try:
        return _read(path)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error


def read_for_target(calibration: Calibration, target: Target) -> list[str]:
    """Return the calibration text of a target, empty if it uses none. Raises as `read`.

    Warns of the user's own text that the target does not use.
    """
    if target.is_calibrated:
        return read(calibration.data_path, "calibration.data")
    if calibration.data_path != PROJECT / BUNDLED_TEXT:
        messages.warning(
            f"calibration.data={calibration.data!r} is not used: {target.name} is not calibrated, "
            "which takes target.quantization.algorithm=gptq"
        )
    return []


def _read(path: Path) -> list[str]:
    files = _text_files(path) if is_folder(path) else [path]
    sizes = {file: _size(file) for file in files}
    if sum(sizes.values()) > _MAX_CHARACTERS:
        step = math.ceil(len(files) * _MIN_CHARACTERS / _MAX_CHARACTERS)
        sizes = {file: sizes[file] for file in files[::step]}
    share = min(1.0, _MAX_CHARACTERS / max(1, sum(sizes.values())))
    return [_read_text(file, math.ceil(size * share)) for file, size in sizes.items()]


def windows(
    tokenizer: Any,
    texts: Sequence[str],
    tokens: int,
    length: int = 512,
    *,
    name: str = "calibration.data",
) -> list[list[int]]:
    """Return windows of `length` token ids, spread evenly over the texts: `tokens` in all.

    The texts are joined by blank lines. A window begins with the special tokens that the tokenizer
    puts before a text. tokenizer: of transformers; length: at most the model's context; name: of
    the text in messages. Warns if the texts have fewer tokens; raises UserError for less than 512.
    """
    first = _first_tokens(tokenizer)
    ids = _token_ids(tokenizer, texts)
    if len(ids) < MIN_TOKENS:
        raise UserError(
            f"{name} has only {len(ids):,} tokens of this model: give text with at least "
            f"{MIN_TOKENS:,}, better with {max(tokens, MIN_TOKENS):,}"
        )
    size = length - len(first)
    wanted, possible = max(1, tokens // length), len(ids) // size
    if possible < wanted:
        messages.warning(
            f"{name} has {len(ids):,} tokens of this model, fewer than {tokens:,}: all are used"
        )
    count = min(wanted, possible)
    spare = len(ids) - count * size
    starts = (number * size + spare * (2 * number + 1) // (2 * count) for number in range(count))
    return [[*first, *ids[start : start + size]] for start in starts]


def _text_files(folder: Path) -> list[Path]:
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() == _SUFFIX)
        outside = [each for each in files if not each.resolve().is_relative_to(folder.resolve())]
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise UserError(f"{folder} cannot be read: {error}") from error
    if not files:
        raise UserError(f"{folder} has no {_SUFFIX} file: give a folder with text, or a text file")
    if outside:
        raise UserError(
            f"{outside[0]} is a link to a file outside its folder: replace it by the file"
        )
    return files


def _size(file: Path) -> int:
    if not is_file(file):
        raise UserError(f"{file} is not a file: give a text file, or a folder of {_SUFFIX} files")
    return file.stat().st_size


def _read_text(file: Path, characters: int) -> str:
    try:
        with file.open(encoding="utf-8-sig") as stream:
            text = stream.read(characters)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text: {error}: save it as UTF-8") from error
    if not text.strip():
        raise UserError(f"{file} is blank: give a text")
    return text


def _first_tokens(tokenizer: Any) -> list[int]:
    """Return the special tokens that a tokenizer puts before a text, such as BOS."""
    plain: list[int] = tokenizer("a", add_special_tokens=False).input_ids
    whole: list[int] = tokenizer("a").input_ids
    return whole[: whole.index(plain[0])]


def _token_ids(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Return the ids of texts that blank lines separate, without special tokens."""
    separated = [text.strip("\n") + _SEPARATOR for text in texts[:-1]] + [texts[-1].strip("\n")]
    # Not verbose: a text may be longer than the context, as it is cut afterwards.
    return [
        token
        for text in separated
        for token in tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    ]
