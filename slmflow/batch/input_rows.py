"""Read the input file and the chat messages of its rows.

An invalid file raises before the model is loaded. A row that can be read but is invalid gets an
error of its own in the output.
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

_CHUNK_ROWS = 1000


@dataclass(frozen=True)
class InputFile:
    """An input file.

    column_names: in the order of the file; schema: the columns' types, None where the output needs
    none; message_rows: how many rows have messages.
    """

    path: Path
    columns: BatchColumns
    column_names: tuple[str, ...]
    schema: pa.Schema | None
    row_count: int
    message_rows: int

    def records(self) -> Iterator[Record]:
        """Yield the rows in order."""
        return readers.read(self.path, lambda _: None)


@dataclass(frozen=True)
class RowMessages:
    """The chat messages of a row (role and content), or why the row is invalid."""

    messages: list[dict[str, str]]
    error: str | None = None


def inspect(file: Path, columns: BatchColumns, *, typed: bool) -> InputFile:
    """Read all rows once, validate the file, and return its columns and size.

    typed: whether to infer the columns' types, which Parquet output needs. Raises UserError with
    all problems of the file in one message.
    """
    names: dict[str, None] = {}
    problems: list[str] = []
    schema = pa.schema([])
    chunk: list[dict[str, Any]] = []
    row_count = question_rows = message_rows = 0
    try:
        for record in readers.read(file, lambda header: _header_problem(header, columns)):
            if record.problem:
                problems.append(f"{record.location}: {record.problem}")
                continue
            row_count += 1
            names.update(dict.fromkeys(record.all_fields))
            question_rows += columns.question in record.fields
            message_rows += columns.messages in record.fields
            if typed and file.suffix.lower() == ".jsonl":
                chunk.append(record.all_fields)
                if len(chunk) == _CHUNK_ROWS:
                    schema, chunk = _extend_schema(schema, chunk), []
        schema = _extend_schema(schema, chunk)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        problems.append(
            f"a Parquet column has one type, but a column here has several: {reason}; "
            "choose a name for batch.output that ends in .jsonl"
        )
    if not problems:
        has_prompts = question_rows + message_rows > 0
        problems = list(_column_problems(list(names), columns, row_count, has_prompts))
    if problems:
        listed = row_checks.list_first(problems)
        raise UserError("\n".join([f"{file} is not a valid input file:", *listed]))
    if file.suffix.lower() == ".csv":
        schema = pa.schema([(name, pa.string()) for name in names])
    if file.suffix.lower() == ".parquet":
        schema = parquet.read_schema(file)
    elif not typed:
        schema = None
    return InputFile(file, columns, tuple(names), schema, row_count, message_rows)


def parse_messages(record: Record, columns: BatchColumns) -> RowMessages:
    """Return the chat messages of a row, from its question or its messages."""
    fields = row_checks.decode_json_fields(record.fields, columns.messages)
    if problems := list(row_checks.question_problems(fields, columns)):
        return RowMessages([], "; ".join(problems))
    return RowMessages(row_checks.build_messages(fields, columns))


def _header_problem(names: Sequence[str], columns: BatchColumns) -> str | None:
    """Return the problem with the header of a table, or None."""
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        return f"two columns are named {' and '.join(duplicates)}: rename one"
    if columns.question not in names and columns.messages not in names:
        return _no_messages(names, columns)
    return None


def _column_problems(
    names: Sequence[str], columns: BatchColumns, row_count: int, has_prompts: bool
) -> Iterator[str]:
    if not row_count:
        yield "it has no rows: add at least one"
    elif not has_prompts:
        yield _no_messages(names, columns)
    for key in ("answer", "prompt_tokens", "completion_tokens", "error"):
        if (name := getattr(columns, key)) in names:
            yield (
                f"its column {name} has the name of an output column: rename the output column "
                f"with batch.columns.{key}"
            )


def _no_messages(names: Sequence[str], columns: BatchColumns) -> str:
    return (
        f"no row has {columns.question} or {columns.messages}; the columns are {', '.join(names)}: "
        "name yours with batch.columns.question or batch.columns.messages"
    )


def _extend_schema(schema: pa.Schema, rows: Sequence[dict[str, Any]]) -> pa.Schema:
    """Return column types that hold these rows as well."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    inferred = [(name, pa.array([row.get(name) for row in rows]).type) for name in names]
    return pa.unify_schemas([schema, pa.schema(inferred)], promote_options="permissive")
