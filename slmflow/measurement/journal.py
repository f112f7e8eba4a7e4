"""Records in the store that are appended one by one, so that a killed process loses none.

Several processes may append to one journal: a line is written at once. A line that a kill cut short
is skipped. A store that cannot be written keeps no journals. Before the first record of a process,
a line names the models that the records are of: `{"about": {"model": "tiny_phi3"}}`.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from slmflow.errors import UserError
from slmflow.pipeline import store

_MAX_ABOUT_BYTES = 4096


class Journal:
    """JSON objects, one per line, in `<store>/<kind>/<key>.jsonl`."""

    def __init__(self, kind: str, key: str, model_name: str = "") -> None:
        """Open a journal; its file appears with the first record.

        model_name: `model.name` of what it is about, by which the step `store` finds it.
        """
        self._file = store.workspace() / kind / f"{key}.jsonl"
        self._unnamed = model_name

    def read(self) -> list[dict[str, Any]]:
        """Return the records, the oldest first; note that they are used."""
        with suppress(OSError):
            os.utime(self._file)
        with suppress(OSError):
            lines = self._file.read_bytes().splitlines()
            records = [record for line in lines if (record := _parse(line)) is not None]
            if self._unnamed in _names(records):
                self._unnamed = ""
            return [record for record in records if "about" not in record]
        return []

    def append(self, record: dict[str, Any]) -> None:
        """Add a record."""
        # The leading line break ends a line that a kill cut short.
        line = f"\n{json.dumps(record)}\n".encode()
        if self._unnamed:
            line = f"\n{json.dumps({'about': {'model': self._unnamed}})}".encode() + line
            self._unnamed = ""
        with suppress(OSError, UserError):
            store.make_folder(self._file.parent)
            is_new = not self._file.exists()
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
            if is_new:
                store.share(self._file)

    def remove(self) -> None:
        """Remove all records."""
        with suppress(OSError):
            self._file.unlink()
            self._file.parent.rmdir()  # if it is empty


def model_names(file: Path) -> list[str]:
    """Return the names of the models that a journal is about, sorted; none if it is not readable.

    Any user of a shared store may have written it: other values are left out.
    """
    with suppress(OSError), file.open("rb") as lines:
        about = (line for line in lines if line.startswith(b'{"about"'))
        records = (_parse(line) for line in about if len(line) <= _MAX_ABOUT_BYTES)
        return sorted(set(_names(record for record in records if record is not None)))
    return []


def _names(records: Iterable[dict[str, Any]]) -> Iterator[str]:
    for record in records:
        match record:
            case {"about": {"model": str(name)}} if name.isprintable():
                yield name


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
