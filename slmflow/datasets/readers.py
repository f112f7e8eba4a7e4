"""Files of rows, as JSONL, CSV or Parquet: each row with its place in the file.

CSV is RFC 4180 with a header; a blank cell is one that is not given, as is null elsewhere.
"""

import csv
import io
import json
import reprlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from slmflow.config.schema.evaluation import Columns
from slmflow.errors import UserError

csv.field_size_limit(2**31 - 1)  # a cell may hold a long conversation; the default is 128 KB

# As CSV a file takes thirteen times its size in memory, and a few kilobytes of Parquet can be any
# number of rows.
MOST_BYTES = 256 * 10**6


_SHORT = reprlib.Repr()  # of a long value it writes the part that is shown, and no more
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlist = _SHORT.maxdict = 20


@dataclass(frozen=True)
class Record:
    """A row: where it begins ("line 3", "row 3"), what it holds, or why it could not be read.

    written: what it holds with what is null or blank too, as the file has it.
    """

    place: str
    fields: dict[str, Any]
    problem: str | None = None
    written: dict[str, Any] = field(default_factory=dict)


Lacks = Callable[[Sequence[str]], str | None]
"""What is wrong with the names of a table's columns, or None."""


def read(file: Path, columns: Columns) -> Iterator[Record]:
    """Yield the rows of a file of evaluation data, of a Parquet file these columns only.

    Raises UserError as `records` does.
    """
    return records(file, partial(_lacks, columns=columns), columns.names)


def records(file: Path, lacks: Lacks, wanted: Sequence[str] | None = None) -> Iterator[Record]:
    """Yield the rows of a file, by its suffix; what is null in a row is left out of its fields.

    lacks: asked of the names of a CSV or Parquet file's columns; wanted: those of a Parquet file's
    that are read, where it has them, None for all. Raises UserError where the file cannot be read
    at all.
    """
    match file.suffix.lower():
        case ".parquet":
            yield from _parquet(file, lacks, wanted)
        case ".csv":
            yield from _csv(_text(file), lacks)
        case _:
            yield from _jsonl(_text(file))


def _text(file: Path) -> str:
    try:
        _refuse_larger(file, file.stat().st_size)
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
    return _record(place, fields)


def _record(place: str, written: dict[str, Any]) -> Record:
    given = {name: value for name, value in written.items() if value is not None}
    return Record(place, given, written=written)


def _csv(text: str, lacks: Lacks) -> Iterator[Record]:
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
            elif problem := lacks(cells):
                yield Record(place, {}, _other_separator(cells) or problem)
                return
            else:
                header = cells
    except csv.Error as error:
        yield Record(f"line {begins}", {}, f"not CSV from here on ({error})")


def _other_separator(header: Sequence[str]) -> str | None:
    """Return what is wrong with the header of a file that other programs call CSV, or None."""
    found = [separator for separator in ";\t|" if len(header) == 1 and separator in header[0]]
    return f"{found[0]!r} is between its columns: separate them by commas" if found else None


def _cells(place: str, header: Sequence[str], cells: Sequence[str]) -> Record:
    if len(cells) != len(header):
        return Record(place, {}, f"{len(cells)} cells, but the header has {len(header)}")
    written = dict(zip(header, cells, strict=True))
    given = {name: cell for name, cell in written.items() if cell.strip()}
    return Record(place, given, written=written)


def _parquet(file: Path, lacks: Lacks, wanted: Sequence[str] | None) -> Iterator[Record]:
    import pyarrow  # here, because what only wants the other formats need not wait for it
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as opened:
            names = opened.schema_arrow.names
            if problem := lacks(names):
                yield Record("columns", {}, problem)
                return
            read = names if wanted is None else [name for name in wanted if name in names]
            for number, row in enumerate(_parquet_rows(opened, file, read), start=1):
                yield _record(f"row {number}", row)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise UserError(f"{file} cannot be read as Parquet: {error}") from error


def _parquet_rows(opened: Any, file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of an opened ParquetFile, so few at a time as never take `MOST_BYTES`."""
    groups = (opened.metadata.row_group(number) for number in range(opened.num_row_groups))
    stored = sum(group.total_byte_size for group in groups)  # a text that repeats counts once
    _refuse_larger(file, stored)
    read = 0
    rows_at_once = min(1024, max(1, MOST_BYTES // max(1, stored)))
    for batch in opened.iter_batches(batch_size=rows_at_once, columns=columns):
        for row in batch.to_pylist():
            read += _size(row)
            _refuse_larger(file, read)
            yield row


def _size(value: Any) -> int:
    """Return about how many bytes a value takes that Parquet can hold."""
    if isinstance(value, dict):
        return sum(_size(each) for each in value.values())
    if isinstance(value, list):
        return sum(_size(each) for each in value)
    return len(value) if isinstance(value, str | bytes) else 8


def _refuse_larger(file: Path, size: int) -> None:
    """Raise UserError for a file whose content has more bytes than are read."""
    if size > MOST_BYTES:
        raise UserError(
            f"{file} holds more than {MOST_BYTES / 1e6:.0f} MB of rows: give fewer, as a file of "
            "their own (evaluation.limit does not keep the others from being checked)"
        )


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
    """Return a value as Python writes it, cut where it is long or deep."""
    text = _SHORT.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
