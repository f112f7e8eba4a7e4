"""What is answered already: a folder beside the output, with a file for each finished partition."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from pyarrow import parquet

from slmflow.batch.requests import Answered
from slmflow.console import messages
from slmflow.system import databricks

T = TypeVar("T")

_SCHEMA = pa.schema(
    [
        ("answer", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("error", pa.string()),
    ]
)


@dataclass(frozen=True)
class Parts:
    """The partitions of some rows, `size` each but the last, kept in a folder until all are done.

    The folder is named after the output and the key of all that its answers depend on.
    """

    output: Path
    key: str
    rows: int
    size: int

    @property
    def folder(self) -> Path:
        """Where the finished ones lie."""
        return self.output.with_name(f"{self._prefix}{self.key[:16]}")

    @property
    def count(self) -> int:
        """How many there are."""
        return -(-self.rows // self.size)

    def length(self, number: int) -> int:
        """Return how many rows one has."""
        return min(self.size, self.rows - number * self.size)

    def begin(self) -> list[int]:
        """Make the folder, and return the numbers of the partitions that are not finished.

        A folder of other rows, another model or other options is left as it is, and told.
        """
        self.folder.mkdir(exist_ok=True)
        for other in sorted(self.output.parent.glob(f"{_literal(self._prefix)}*")):
            if other != self.folder:
                messages.warn(f"{other} is of another input, model or options: delete it if done")
        return [number for number in range(self.count) if not self._finished(number)]

    def keep(self, number: int, answers: Sequence[Answered]) -> None:
        """Write the answers to a partition; they are there whole or not at all."""
        table = pa.Table.from_pylist([asdict(each) for each in answers], _SCHEMA)
        building = self.folder / f"building-{number}"
        parquet.write_table(table, building)
        databricks.put(building, self._file(number))

    def answers(self) -> Iterator[Answered]:
        """Yield the answers to all rows, in order; every partition must be finished."""
        for number in range(self.count):
            for row in parquet.read_table(self._file(number)).to_pylist():
                yield Answered(**row)

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _prefix(self) -> str:
        return f"{self.output.name}.parts-"

    def _file(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.parquet"

    def _finished(self, number: int) -> bool:
        """Return whether a partition is there whole, with a row for each of its rows."""
        try:
            with parquet.ParquetFile(self._file(number)) as file:
                return int(file.metadata.num_rows) == self.length(number)
        except (OSError, pa.ArrowException):
            return False


def chunks(rows: Iterator[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` rows, of the rest at the end."""
    while chunk := list(islice(rows, size)):
        yield chunk


def _literal(name: str) -> str:
    """Return a name as a pattern that only it fits."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def writable(folder: Path) -> bool:
    """Return whether files can be made in a folder."""
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
