"""The rows both flavors answer: a JSONL file with a `question` and an `answer` per line."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steps.common.errors import UserError


@dataclass(frozen=True)
class Row:
    """A question and the answer a perfect model gives."""

    question: str
    answer: str


def read(file: Path, limit: int | None = None) -> list[Row]:
    """Return the first `limit` rows of the file, or all. Blank lines do not count.

    Raises UserError, with every bad line and its number in one message; lines beyond `limit` are
    checked too.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as UTF-8 text: {error}") from error
    rows, problems = [], []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            row, found = _parse(line)
            rows.append(row)
            problems += [f"line {number}: {problem}" for problem in found]
    if problems:
        expected = 'each line must be like {"question": "...", "answer": "..."}'
        raise UserError("\n".join([f"{file}: {expected}", *problems]))
    if not rows:
        raise UserError(f"{file} has no rows: give at least one question and its answer")
    return [Row(row["question"], row["answer"]) for row in rows[:limit]]


def _parse(line: str) -> tuple[Any, list[str]]:
    try:
        row = json.loads(line)
    except ValueError as error:
        return None, [f"not JSON ({error})"]
    return row, list(_problems(row))


def _problems(row: Any) -> Iterator[str]:
    if not isinstance(row, dict):
        yield f"not a JSON object but {row!r}"
        return
    for name in ("question", "answer"):
        if name not in row:
            yield f"no {name}"
        elif not isinstance(row[name], str):
            yield f"{name} is not text but {row[name]!r}"
        elif not row[name].strip():
            yield f"{name} is blank"
