"""Write the output: the input's own columns, in their order, and what the answers add.

Values are data and stay as they are. In particular a CSV cell that begins with `=`, `+`, `-` or `@`
is written as it is, quoted where RFC 4180 asks for it: an escape would alter the data for every
other reader. Who opens answers of a model in a spreadsheet should import the columns as text.
"""

import csv
import json
from collections.abc import Iterable, Iterator
from datetime import date, time
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from slmflow.batch.input_rows import Source
from slmflow.batch.requests import Answered
from slmflow.errors import UserError
from slmflow.system import databricks

_CHUNK_ROWS = 1000


def problems(source: Source, output: Path) -> Iterator[str]:
    """Yield what of the input cannot be written to such an output."""
    if output.suffix.lower() == ".parquet" or source.schema is None:
        return
    for column in source.schema:
        if _has_bytes(column.type):
            yield (
                f"batch.input: column {column.name} holds bytes, which {output.suffix} cannot: "
                "give batch.output a name that ends in .parquet"
            )


def write(source: Source, answers: Iterable[Answered], output: Path, building: Path) -> None:
    """Write the rows with their answers, which come in their order, to `building`, then move it.

    Raises UserError where there is an output already.
    """
    rows = (
        record.written | answered.named(source.columns)
        for record, answered in zip(source.records(), answers, strict=True)
    )
    match output.suffix.lower():
        case ".parquet":
            _parquet(source, rows, building)
        case ".csv":
            _csv(source, rows, building)
        case _:
            _jsonl(rows, building)
    refuse_existing(output)
    databricks.put(building, output)


def refuse_existing(output: Path) -> None:
    """Raise UserError where there is an output already."""
    if output.exists():
        raise UserError(
            f"batch.output={str(output)!r} is there already: delete it, or name another"
        )


def _parquet(source: Source, rows: Iterator[dict[str, Any]], file: Path) -> None:
    assert source.schema is not None  # noqa: S101 (it was read for this output)
    schema = source.schema
    texts, counts = pa.string(), pa.int64()
    for name, kind in zip(source.columns.added, (texts, counts, counts, texts), strict=True):
        schema = schema.append(pa.field(name, kind))
    with parquet.ParquetWriter(file, schema) as writer:
        chunk: list[dict[str, Any]] = []
        for row in rows:
            chunk.append(row)
            if len(chunk) == _CHUNK_ROWS:
                writer.write_table(pa.Table.from_pylist(chunk, schema))
                chunk = []
        writer.write_table(pa.Table.from_pylist(chunk, schema))


def _csv(source: Source, rows: Iterator[dict[str, Any]], file: Path) -> None:
    names = [*source.names, *source.columns.added]
    with file.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        for row in rows:
            writer.writerow([_cell(row.get(name)) for name in names])


def _jsonl(rows: Iterator[dict[str, Any]], file: Path) -> None:
    # Half a character (a lone surrogate) of the input is written as JSON has it, `\ud800`.
    with file.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False, default=_plain) + "\n")


def _cell(value: Any) -> str:
    """Return a list, an object, true and false as JSON has them, and any other value as text."""
    if value is None:
        return ""
    if isinstance(value, list | dict | bool):
        return json.dumps(value, ensure_ascii=False, default=_plain)
    return str(_plain(value))


def _plain(value: Any) -> Any:
    """Return a value of Parquet's that JSON has no type for: ISO 8601, else its own text."""
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _has_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return True
    return pa.types.is_fixed_size_binary(kind) or any(
        _has_bytes(kind.field(index).type) for index in range(kind.num_fields)
    )
