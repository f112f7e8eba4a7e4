"""The rows of the input: what a row asks, and what it holds beside that.

What is wrong with the file is told before anything is answered; what is wrong with a row that can
be read becomes the error of that row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from slmflow.config.schema.batch import BatchColumns
from slmflow.datasets import readers, row_checks
from slmflow.datasets.readers import Record
from slmflow.errors import UserError

_MOST_LISTED = 100
_CHUNK_ROWS = 1000


@dataclass(frozen=True)
class Source:
    """A file, its columns in their order, their types for Parquet, and how many rows it has."""

    file: Path
    columns: BatchColumns
    names: tuple[str, ...]
    schema: pa.Schema | None
    rows: int

    def records(self) -> Iterator[Record]:
        """Yield the rows, in order."""
        return readers.records(self.file, lambda _: None)


@dataclass(frozen=True)
class Question:
    """What a row asks, or why it asks nothing; messages are of role and content."""

    messages: list[dict[str, str]]
    problem: str | None = None


def read(file: Path, columns: BatchColumns, *, typed: bool) -> Source:
    """Read all rows once, and return what they are.

    typed: whether the types of the columns are needed, as Parquet has them. Raises UserError with
    every place where the file is no file of rows in one message.
    """
    names: dict[str, None] = {}
    problems: list[str] = []
    schema = pa.schema([])
    chunk: list[dict[str, Any]] = []
    rows = 0
    asks = False
    try:
        for record in readers.records(file, lambda found: _lacks(found, columns)):
            if record.problem:
                problems.append(f"{record.place}: {record.problem}")
                continue
            rows += 1
            names.update(dict.fromkeys(record.written))
            asks = asks or not record.fields.keys().isdisjoint((columns.question, columns.messages))
            if typed and file.suffix.lower() == ".jsonl":
                chunk.append(record.written)
                if len(chunk) == _CHUNK_ROWS:
                    schema, chunk = _joined(schema, chunk), []
        schema = _joined(schema, chunk)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        problems.append(
            f"Parquet has one type for a column, and these have several: {_first_line(error)}; "
            "give batch.output a name that ends in .jsonl"
        )
    if not problems:
        problems = list(_problems(list(names), columns, rows, asks=asks))
    if problems:
        listed = problems[:_MOST_LISTED]
        more = [f"and {len(problems) - _MOST_LISTED} more"] if problems[_MOST_LISTED:] else []
        raise UserError("\n".join([f"{file} cannot be answered:", *listed, *more]))
    return Source(file, columns, tuple(names), _schema(file, names, schema, typed=typed), rows)


def question(record: Record, columns: BatchColumns) -> Question:
    """Return what a row asks."""
    given = row_checks.decoded(record.fields, columns.messages)
    if found := list(row_checks.question_problems(given, columns)):
        return Question([], "; ".join(found))
    if columns.question in given:
        return Question([{"role": "user", "content": given[columns.question]}])
    return Question(
        [{"role": each["role"], "content": each["content"]} for each in given[columns.messages]]
    )


def _lacks(names: Sequence[str], columns: BatchColumns) -> str | None:
    """Return what is wrong with the header of a table, or None."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        return f"two columns are named {' and '.join(twice)}: rename one"
    if columns.question not in names and columns.messages not in names:
        return _no_question(names, columns)
    return None


def _problems(
    names: Sequence[str], columns: BatchColumns, rows: int, *, asks: bool
) -> Iterator[str]:
    if not rows:
        yield "it has no rows: give at least one"
    elif not asks:
        yield _no_question(names, columns)
    for key in ("answer", "prompt_tokens", "completion_tokens", "error"):
        if (name := getattr(columns, key)) in names:
            yield f"it has a column {name}, as the output is to: name that with batch.columns.{key}"


def _no_question(names: Sequence[str], columns: BatchColumns) -> str:
    return (
        f"no row has {columns.question} or {columns.messages}, but {', '.join(names)}: name yours "
        "with batch.columns.question or .messages"
    )


def _joined(schema: pa.Schema, rows: Sequence[dict[str, Any]]) -> pa.Schema:
    """Return the types of columns that hold these rows too."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    found = [(name, pa.array([row.get(name) for row in rows]).type) for name in names]
    return pa.unify_schemas([schema, pa.schema(found)], promote_options="permissive")


def _schema(
    file: Path, names: dict[str, None], found: pa.Schema, *, typed: bool
) -> pa.Schema | None:
    if file.suffix.lower() == ".parquet":
        return parquet.read_schema(file)
    if not typed:
        return None
    if file.suffix.lower() == ".csv":
        return pa.schema([(name, pa.string()) for name in names])
    return found


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")
