"""Records in the store that are appended one by one, so that a killed process loses none.

Several processes may append to one journal: a line is written at once. A line that a kill cut short
is skipped. A store that cannot be written keeps no journals.
"""

import json
import os
from contextlib import suppress
from typing import Any

from slmflow.errors import UserError
from slmflow.pipeline import store


class Journal:
    """JSON objects, one per line, in `<store>/<kind>/<key>.jsonl`."""

    def __init__(self, kind: str, key: str) -> None:
        """Open a journal; its file appears with the first record."""
        self._file = store.workspace() / kind / f"{key}.jsonl"

    def read(self) -> list[dict[str, Any]]:
        """Return the records, the oldest first; note that they are used."""
        with suppress(OSError):
            os.utime(self._file)
        with suppress(OSError):
            lines = self._file.read_bytes().splitlines()
            return [record for line in lines if (record := _parse(line)) is not None]
        return []

    def append(self, record: dict[str, Any]) -> None:
        """Add a record."""
        # The leading line break ends a line that a kill cut short.
        line = f"\n{json.dumps(record)}\n".encode()
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


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
