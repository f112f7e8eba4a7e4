"""Count what a Python process hashes with sha256: Python imports this module when it starts.

With the folder of this file on PYTHONPATH, every process appends lines of a number of bytes, the
program and a file's name (`-` if it is unknown) to the file that COUNT_HASHES names.
"""

import hashlib
import os
import sys
from typing import Any

_LOG = os.environ.get("COUNT_HASHES")
_LARGE_BYTES = 64 * 1024  # weights are hashed in chunks of at least this size

_sha256, _new, _file_digest = hashlib.sha256, hashlib.new, hashlib.file_digest


class _Counting:
    """A sha256 object that counts the large chunks it is given."""

    name = "sha256"

    def __init__(self, data: bytes = b"", file: str = "-") -> None:
        self._hash, self._count, self._file = _sha256(), 0, file
        self.digest_size, self.block_size = self._hash.digest_size, self._hash.block_size
        self.update(data)

    def update(self, data: Any) -> None:
        self._hash.update(data)
        size = memoryview(data).nbytes
        self._count += size if size >= _LARGE_BYTES else 0

    def digest(self) -> bytes:
        self._write()
        return self._hash.digest()

    def hexdigest(self) -> str:
        self._write()
        return self._hash.hexdigest()

    def copy(self) -> Any:
        return self._hash.copy()

    def _write(self) -> None:
        if self._count and _LOG:
            program = next((a for a in sys.orig_argv[1:] if not a.startswith("-")), "-").split()[0]
            with open(_LOG, "a") as log:  # noqa: PTH123 (pathlib is slow to import)
                log.write(f"{self._count}\t{program}\t{self._file}\n")
            self._count = 0


def _new_counting(name: str, data: bytes = b"", **options: Any) -> Any:
    return _Counting(data) if name == "sha256" else _new(name, data, **options)


def _count_file_digest(stream: Any, digest: Any, /, **options: Any) -> Any:
    if digest != "sha256":
        return _file_digest(stream, digest, **options)
    file = getattr(stream, "name", "-")
    return _file_digest(stream, lambda: _Counting(file=str(file)), **options)


if _LOG:
    for _name, _function in (
        ("sha256", _Counting),
        ("new", _new_counting),
        ("file_digest", _count_file_digest),
    ):
        setattr(hashlib, _name, _function)
