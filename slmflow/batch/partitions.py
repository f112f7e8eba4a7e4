"""Store finished partitions in a folder beside the output, so that a job can resume."""

import glob
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from pyarrow import parquet

from slmflow.batch.requests import RowAnswer
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
class PartitionStore:
    """The finished partitions of a batch job.

    key: sha256 of everything the answers depend on. The folder is named after output and key.
    partition_rows: rows of each partition but the last.
    """

    output: Path
    key: str
    row_count: int
    partition_rows: int

    @property
    def folder(self) -> Path:
        """The folder of the finished partitions."""
        return self.output.with_name(f"{self._prefix}{self.key[:16]}")

    @property
    def partition_count(self) -> int:
        """The number of partitions, finished or not."""
        return -(-self.row_count // self.partition_rows)

    def rows_in(self, number: int) -> int:
        """Return how many rows a partition has."""
        return min(self.partition_rows, self.row_count - number * self.partition_rows)

    def prepare(self) -> list[int]:
        """Create the folder; return the numbers of the unfinished partitions.

        Warns of folders of the same output with another key, and leaves them in place.
        """
        self.folder.mkdir(exist_ok=True)
        for other in sorted(self.output.parent.glob(f"{glob.escape(self._prefix)}*")):
            if other != self.folder:
                messages.warning(
                    f"{other} holds partitions of another input, model or options: delete it if "
                    "you no longer need it"
                )
        return [number for number in range(self.partition_count) if not self._is_finished(number)]

    def write(self, number: int, answers: Sequence[RowAnswer]) -> None:
        """Write the answers of a partition atomically."""
        table = pa.Table.from_pylist([asdict(answer) for answer in answers], _SCHEMA)
        temporary = self.folder / f"building-{number}"
        parquet.write_table(table, temporary)
        databricks.move_file(temporary, self._file(number))

    def read_answers(self) -> Iterator[RowAnswer]:
        """Yield the answers of all rows in order; every partition must be finished."""
        for number in range(self.partition_count):
            for row in parquet.read_table(self._file(number)).to_pylist():
                yield RowAnswer(**row)

    def delete(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _prefix(self) -> str:
        return f"{self.output.name}.parts-"

    def _file(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.parquet"

    def _is_finished(self, number: int) -> bool:
        try:
            with parquet.ParquetFile(self._file(number)) as file:
                return int(file.metadata.num_rows) == self.rows_in(number)
        except (OSError, pa.ArrowException):
            return False


def split_into_chunks(rows: Iterator[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` rows; the last may be shorter."""
    while chunk := list(islice(rows, size)):
        yield chunk
