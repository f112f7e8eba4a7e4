"""Write the output file: the columns of the input, in order, and those of the answers.

Values are written unchanged. This includes CSV cells that begin with `=`, `+`, `-` or `@`: escaping
them would alter the data for every other reader, so users of a spreadsheet should import the
columns as text. Cells are quoted as RFC 4180 requires.
"""

import csv
import json
from collections.abc import Iterable, Iterator
from datetime import date, time
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from slmflow.batch.input_rows import InputFile
from slmflow.batch.partitions import split_into_chunks
from slmflow.batch.requests import RowAnswer
from slmflow.errors import UserError
from slmflow.system import databricks

_CHUNK_ROWS = 1000


def find_problems(input_file: InputFile, output: Path) -> Iterator[str]:
    """Yield what of the input the output's format cannot hold."""
    if output.suffix.lower() == ".parquet" or input_file.schema is None:
        return
    for column in input_file.schema:
        if _has_bytes(column.type):
            yield (
                f"batch.input: column {column.name} holds bytes, which {output.suffix} cannot "
                "hold: choose a name for batch.output that ends in .parquet"
            )


def write(
    input_file: InputFile, answers: Iterable[RowAnswer], output: Path, temporary: Path
) -> None:
    """Write rows and answers, both in row order, to a temporary file, and move it to the output.

    Raises UserError if the output exists.
    """
    rows = (
        record.all_fields | answer.to_columns(input_file.columns)
        for record, answer in zip(input_file.records(), answers, strict=True)
    )
    match output.suffix.lower():
        case ".parquet":
            _write_parquet(input_file, rows, temporary)
        case ".csv":
            _write_csv(input_file, rows, temporary)
        case _:
            _write_jsonl(rows, temporary)
    require_absent(output)
    databricks.move_file(temporary, output)


def require_absent(output: Path) -> None:
    """Raise UserError if the output exists."""
    if output.exists():
        raise UserError(
            f"batch.output={str(output)!r} already exists: delete it, or choose another name"
        )


def _write_parquet(input_file: InputFile, rows: Iterator[dict[str, Any]], file: Path) -> None:
    assert input_file.schema is not None  # noqa: S101 (inspected with typed=True)
    schema = input_file.schema
    types = (pa.string(), pa.int64(), pa.int64(), pa.string())
    for name, column_type in zip(input_file.columns.added, types, strict=True):
        schema = schema.append(pa.field(name, column_type))
    with parquet.ParquetWriter(file, schema) as writer:
        for chunk in split_into_chunks(rows, _CHUNK_ROWS):
            writer.write_table(pa.Table.from_pylist(chunk, schema))


def _write_csv(input_file: InputFile, rows: Iterator[dict[str, Any]], file: Path) -> None:
    names = [*input_file.column_names, *input_file.columns.added]
    with file.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        for row in rows:
            writer.writerow([_to_cell(row.get(name)) for name in names])


def _write_jsonl(rows: Iterator[dict[str, Any]], file: Path) -> None:
    # backslashreplace writes a lone surrogate of the input as JSON escapes it, `\ud800`.
    with file.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False, default=_to_text) + "\n")


def _to_cell(value: Any) -> str:
    """Return a list, an object or a boolean as JSON, and any other value as text."""
    if value is None:
        return ""
    if isinstance(value, list | dict | bool):
        return json.dumps(value, ensure_ascii=False, default=_to_text)
    return _to_text(value)


def _to_text(value: Any) -> str:
    """Return the text of a Parquet value that has no JSON type; dates and times as ISO 8601."""
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _has_bytes(column_type: pa.DataType) -> bool:
    if (
        pa.types.is_binary(column_type)
        or pa.types.is_large_binary(column_type)
        or pa.types.is_fixed_size_binary(column_type)
    ):
        return True
    return any(_has_bytes(column_type.field(index).type) for index in range(column_type.num_fields))
