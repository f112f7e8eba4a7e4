"""Read rows from JSONL, CSV or Parquet files, each with its location in the file.

CSV follows RFC 4180 and has a header. A blank CSV cell counts as missing, like null elsewhere.
"""

import csv
import io
import json
import reprlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slmflow.errors import UserError

csv.field_size_limit(2**31 - 1)  # a cell may hold a long conversation; the default is 128 KB

# A CSV file takes thirteen times its size in memory, and a few kilobytes of Parquet can hold any
# number of rows.
MAX_BYTES = 256 * 10**6

_SHORT = reprlib.Repr()  # formats only the part of a long value that is shown
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlist = _SHORT.maxdict = 20


@dataclass(frozen=True)
class Record:
    """A row of a file.

    location: where it begins ("line 3", "row 3"); fields: its values without null and blank ones;
    problem: why it could not be read, or None; all_fields: its values as the file has them.
    """

    location: str
    fields: dict[str, Any]
    problem: str | None = None
    all_fields: dict[str, Any] = field(default_factory=dict)


HeaderCheck = Callable[[Sequence[str]], str | None]
"""Returns the problem with a table's column names, or None."""


def read(
    file: Path, check_header: HeaderCheck, columns: Sequence[str] | None = None
) -> Iterator[Record]:
    """Yield the rows of a file, in the format of its suffix.

    check_header: applied to the column names of a CSV or Parquet file; columns: the ones to read of
    a Parquet file, None for all. Raises UserError if the file as a whole is unreadable.
    """
    match file.suffix.lower():
        case ".parquet":
            yield from _read_parquet(file, check_header, columns)
        case ".csv":
            yield from _read_csv(_read_text(file), check_header)
        case _:
            yield from _read_jsonl(_read_text(file))


def short_repr(value: object) -> str:
    """Return the repr of a value, shortened if it is long or deep."""
    text = _SHORT.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _read_text(file: Path) -> str:
    try:
        _check_size(file, file.stat().st_size)
        return file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as UTF-8 text: {error}") from error


def _read_jsonl(text: str) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _parse_line(f"line {number}", line)


def _parse_line(location: str, line: str) -> Record:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Record(location, {}, f"not JSON ({error})")
    if not isinstance(fields, dict):
        return Record(location, {}, f"not a JSON object but {short_repr(fields)}")
    return _build_record(location, fields)


def _build_record(location: str, all_fields: dict[str, Any]) -> Record:
    fields = {name: value for name, value in all_fields.items() if value is not None}
    return Record(location, fields, all_fields=all_fields)


def _read_csv(text: str, check_header: HeaderCheck) -> Iterator[Record]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    next_line = 1  # a row with a quoted cell may span several lines
    try:
        for cells in reader:
            location, next_line = f"line {next_line}", reader.line_num + 1
            if len(cells) < 2 and not "".join(cells).strip():
                continue
            if header:
                yield _parse_cells(location, header, cells)
            elif problem := _separator_problem(cells) or check_header(cells):
                yield Record(location, {}, problem)
                return
            else:
                header = cells
    except csv.Error as error:
        yield Record(f"line {next_line}", {}, f"not CSV from here on ({error})")


def _separator_problem(header: Sequence[str]) -> str | None:
    """Return the problem with a file that has another separator than a comma, or None."""
    used = [separator for separator in ";\t|" if len(header) == 1 and separator in header[0]]
    return f"the columns are separated by {used[0]!r}: separate them by commas" if used else None


def _parse_cells(location: str, header: Sequence[str], cells: Sequence[str]) -> Record:
    if len(cells) != len(header):
        return Record(location, {}, f"{len(cells)} cells, but the header has {len(header)}")
    all_fields = dict(zip(header, cells, strict=True))
    fields = {name: cell for name, cell in all_fields.items() if cell.strip()}
    return Record(location, fields, all_fields=all_fields)


def _read_parquet(
    file: Path, check_header: HeaderCheck, columns: Sequence[str] | None
) -> Iterator[Record]:
    import pyarrow  # imported here, as the other formats do not need it
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as opened:
            names = opened.schema_arrow.names
            if problem := check_header(names):
                yield Record("columns", {}, problem)
                return
            selected = names if columns is None else [name for name in columns if name in names]
            for number, row in enumerate(_parquet_rows(opened, file, selected), start=1):
                yield _build_record(f"row {number}", row)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise UserError(f"{file} cannot be read as Parquet: {error}") from error


def _parquet_rows(opened: Any, file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a ParquetFile, in batches small enough never to take `MAX_BYTES`."""
    groups = (opened.metadata.row_group(number) for number in range(opened.num_row_groups))
    stored = sum(group.total_byte_size for group in groups)  # counts a repeated text once
    _check_size(file, stored)
    total = 0
    batch_rows = min(1024, max(1, MAX_BYTES // max(1, stored)))
    for batch in opened.iter_batches(batch_size=batch_rows, columns=columns):
        for row in batch.to_pylist():
            total += _estimate_bytes(row)
            _check_size(file, total)
            yield row


def _estimate_bytes(value: Any) -> int:
    """Return the approximate size in bytes of a value read from Parquet."""
    if isinstance(value, dict):
        return sum(_estimate_bytes(each) for each in value.values())
    if isinstance(value, list):
        return sum(_estimate_bytes(each) for each in value)
    return len(value) if isinstance(value, str | bytes) else 8


def _check_size(file: Path, size: int) -> None:
    if size > MAX_BYTES:
        raise UserError(
            f"{file} holds more than {MAX_BYTES / 1e6:.0f} MB of rows: use a smaller file "
            "(evaluation.limit does not help, as rows beyond it are checked too)"
        )
