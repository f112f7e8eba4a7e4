"""The sha256 of files. A large file is read once; later its size, times and inode identify it.

Within a process, `copy` and `remember` leave the digest of what they wrote for whoever asks next.
Between processes, the digests of a user's folder are kept in `<store>/digests/`, or in the user's
cache if the store cannot be written.
"""

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import platformdirs

from slmflow.errors import UserError
from slmflow.pipeline import store

LARGE_BYTES = 1 << 20
"""The size from which the digest of a file is kept. Smaller files are read again each time."""

_COPY_BYTES = 1 << 20

# A file that has just been written may be written again without a change of its times.
_TIME_RESOLUTION_S = 2.0


class Readable(Protocol):
    """A binary stream; `rich` wraps one for its progress bar."""

    def read(self, size: int = ..., /) -> bytes:
        """Read at most `size` bytes."""


class Stamp(NamedTuple):
    """What changes with the content of a file; times in nanoseconds."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """Return the stamp of a file."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


_known: dict[tuple[int, Stamp], str] = {}
"""Digests of large files by device and stamp."""


def sha256(file: Path) -> str:
    """Return the hexadecimal sha256 of a file, which is read in full."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def copy(source: Readable, target: Path) -> str:
    """Write a stream to a file; return the sha256 of what was written, and remember it."""
    digest = hashlib.sha256()
    with target.open("wb") as writer:
        while chunk := source.read(_COPY_BYTES):
            digest.update(chunk)
            writer.write(chunk)
    remember(target, digest.hexdigest())
    return digest.hexdigest()


def remember(file: Path, digest: str) -> None:
    """Let `known_or_sha256` return this digest of a file until the file changes."""
    status = file.stat()
    if status.st_size >= LARGE_BYTES:
        _known[status.st_dev, Stamp.of(status)] = digest


def known_or_sha256(file: Path) -> str:
    """Return the sha256 of a file that this process may have written."""
    status = file.stat()
    return _known.get((status.st_dev, Stamp.of(status))) or sha256(file)


def of_path(path: Path) -> str:
    """Return a sha256 over a user's file, or over the names and contents of a folder's files.

    Reads no large file that has the size, times and inode with which any process read it before.
    Raises UserError if a file cannot be read.
    """
    kept = _KeptDigests(path)
    try:
        if path.is_file():
            digest = kept.sha256(path)
        else:
            listing = [f"{name} {kept.sha256(file)}" for name, file in store.files(path)]
            digest = hashlib.sha256("\n".join(listing).encode()).hexdigest()
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read ({error.strerror}): grant yourself read access"
        ) from error
    kept.save()
    return digest


class _KeptDigests:
    """The digests of the large files of one path, in a file of the store."""

    def __init__(self, path: Path) -> None:
        self._folder = path.absolute() if path.is_dir() else path.absolute().parent
        name = hashlib.sha256(str(path.absolute()).encode()).hexdigest()
        base = platformdirs.user_cache_path("slmflow") if store.is_read_only() else None
        self._file = (base or store.workspace()) / "digests" / f"{name}.json"
        self._before = _read_object(self._file).get("files", {})
        self._now: dict[str, list[Any]] = {}

    def sha256(self, file: Path) -> str:
        """Return the sha256 of a file, which is kept if the file is large."""
        status = file.stat()
        if status.st_size < LARGE_BYTES:
            return sha256(file)
        name = os.path.relpath(file.absolute(), self._folder)
        stamp = [*Stamp.of(status), status.st_ctime_ns]
        match self._before.get(name):
            case [[*before], str(digest)] if before == stamp:
                pass
            case _:
                started = time.time()
                digest = sha256(file)
                changed = max(status.st_mtime, status.st_ctime)
                if Stamp.of(file.stat()) != Stamp.of(status) or (
                    started - changed < _TIME_RESOLUTION_S
                ):
                    return digest
        self._now[name] = [stamp, digest]
        return digest

    def save(self) -> None:
        """Write what is new, or note that what is kept is used, if that is possible."""
        with suppress(OSError, UserError):
            if self._now == self._before:
                os.utime(self._file)
            elif self._now:
                content = {"path": str(self._folder), "files": self._now}
                text, folder = json.dumps(content, indent=2), self._file.parent
                store.replace_text(self._file, text, scratch=folder)


def _read_object(file: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(file.read_bytes())
        if isinstance(content, dict) and isinstance(content.get("files"), dict):
            return content
    return {}
