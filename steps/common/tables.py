"""Files of rows, as JSONL, CSV or Parquet: each row with its place in the file.

CSV is RFC 4180 with a header; a blank cell is one that is not given, as is null elsewhere.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steps.common.errors import UserError
from steps.common.schema.evaluation import Columns

csv.field_size_limit(2**31 - 1)  # a cell may hold a long conversation; the default is 128 KB


@dataclass(frozen=True)
class Record:
    """A row: where it begins ("line 3", "row 3"), what it holds, or why it could not be read."""

    place: str
    fields: dict[str, Any]
    problem: str | None = None


def read(file: Path, columns: Columns) -> Iterator[Record]:
    """Yield the rows of a file, by its suffix; what is null in a row is left out of it.

    Raises UserError where the file cannot be read at all.
    """
    match file.suffix.lower():
        case ".parquet":
            yield from _parquet(file, columns)
        case ".csv":
            yield from _csv(_text(file), columns)
        case _:
            yield from _jsonl(_text(file))


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as UTF-8 text: {error}") from error


def _jsonl(text: str) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _object(f"line {number}", line)


def _object(place: str, line: str) -> Record:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Record(place, {}, f"not JSON ({error})")
    if not isinstance(fields, dict):
        return Record(place, {}, f"not a JSON object but {shown(fields)}")
    return Record(place, {name: value for name, value in fields.items() if value is not None})


def _csv(text: str, columns: Columns) -> Iterator[Record]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    begins = 1  # a row spans lines where a quoted cell does
    try:
        for cells in reader:
            place, begins = f"line {begins}", reader.line_num + 1
            if len(cells) < 2 and not "".join(cells).strip():
                continue
            if header:
                yield _cells(place, header, cells)
            elif problem := _lacks(cells, columns):
                yield Record(place, {}, problem)
                return
            else:
                header = cells
    except csv.Error as error:
        yield Record(f"line {begins}", {}, f"not CSV from here on ({error})")


def _cells(place: str, header: Sequence[str], cells: Sequence[str]) -> Record:
    if len(cells) != len(header):
        return Record(place, {}, f"{len(cells)} cells, but the header has {len(header)}")
    given = zip(header, cells, strict=True)
    return Record(place, {name: cell for name, cell in given if cell.strip()})


def _parquet(file: Path, columns: Columns) -> Iterator[Record]:
    import pyarrow  # here, because what only wants the other formats need not wait for it
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as opened:
            names = opened.schema_arrow.names
            if problem := _lacks(names, columns):
                yield Record("columns", {}, problem)
                return
            wanted = [name for name in columns.names if name in names]
            rows = (
                row for batch in opened.iter_batches(columns=wanted) for row in batch.to_pylist()
            )
            for number, row in enumerate(rows, start=1):
                given = {name: value for name, value in row.items() if value is not None}
                yield Record(f"row {number}", given)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as Parquet: {error}") from error


def _lacks(names: Sequence[str], columns: Columns) -> str | None:
    """Return what is wrong with the names of a table's columns, or None."""
    lacks = []
    if columns.answer not in names:
        lacks.append((columns.answer, "evaluation.columns.answer"))
    if columns.question not in names and columns.messages not in names:
        either = f"{columns.question} or {columns.messages}"
        lacks.append((either, "evaluation.columns.question or .messages"))
    if lacks:
        missing = " and no column ".join(column for column, _ in lacks)
        keys = " and ".join(key for _, key in lacks)
        return f"no column {missing}, but {', '.join(names)}: name yours with {keys}"
    if twice := sorted(name for name in columns.names if names.count(name) > 1):
        return f"two columns are named {' and '.join(twice)}: rename one"
    return None


def shown(value: object) -> str:
    """Return a value as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
