"""The manifest of a store entry: path, size and sha256 of every file.

With each sum the manifest has the file's modification time and inode. A file that still has them,
and its size, is not read again (`verify`), except by those who ask (`verify_contents`). A copy of
the store has other inodes: there each entry is read once and gets a new manifest.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from slmflow.errors import UserError
from slmflow.pipeline import digests, store
from slmflow.pipeline.digests import Stamp
from slmflow.pipeline.store import MANIFEST
from slmflow.system import databricks


class BrokenEntry(Exception):
    """A store entry that differs from its manifest; the message names the first file."""


@dataclass(frozen=True)
class RecordedFile:
    """A file of an entry; mtime_ns and inode are None in the manifests of earlier versions."""

    path: str
    size: int
    sha256: str
    mtime_ns: int | None = None
    inode: int | None = None

    @classmethod
    def of(cls, path: str, file: Path, sha256: str) -> "RecordedFile":
        """Record a file as it is now."""
        stamp = Stamp.of(file.stat())
        return cls(path, stamp.size, sha256, stamp.mtime_ns, stamp.inode)

    def has_stamp(self, stamp: Stamp) -> bool:
        """Return whether the file has not changed since it was recorded."""
        return (self.size, self.mtime_ns, self.inode) == stamp


@dataclass(frozen=True)
class Manifest:
    """The files of an entry, and what it was made from and for, by name (`model`, `target`)."""

    files: tuple[RecordedFile, ...]
    about: dict[str, str] = field(default_factory=dict)

    @property
    def checksums(self) -> dict[str, str]:
        """The sha256 of each file, by path."""
        return {file.path: file.sha256 for file in self.files}

    @property
    def size_bytes(self) -> int:
        """The size of all files."""
        return sum(file.size for file in self.files)

    @property
    def digest(self) -> str:
        """A sha256 over paths, sizes and sums: that of equal entries in any store."""
        files = [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in self.files]
        return hashlib.sha256(json.dumps({"files": files}, indent=2).encode()).hexdigest()


def read(entry: Path) -> Manifest:
    """Return the manifest of an entry. Raises BrokenEntry if it has none that is readable."""
    try:
        content = json.loads((entry / MANIFEST).read_bytes())
        files = tuple(RecordedFile(**each) for each in content["files"])
        about = {str(name): str(value) for name, value in content.get("about", {}).items()}
        return Manifest(files, about)
    except PermissionError as error:
        raise store.unreadable_error(error) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BrokenEntry(f"{entry} has no readable manifest") from error


def checksums(entry: Path) -> dict[str, str]:
    """Return the sha256 of each file of an entry, by relative path."""
    return read(entry).checksums


def write(folder: Path, about: dict[str, str]) -> None:
    """Write the manifest of a finished folder; sums that this process knows are not computed."""
    files = [
        RecordedFile.of(name, file, digests.known_or_sha256(file))
        for name, file in store.files(folder)
    ]
    _write(folder / MANIFEST, Manifest(tuple(files), about))


def copy(folder: Path, entry: Path) -> None:
    """Write the manifest of a folder into a copy of it."""
    manifest = read(folder)
    files = [RecordedFile.of(f.path, entry / f.path, f.sha256) for f in manifest.files]
    _write(entry / MANIFEST, Manifest(tuple(files), manifest.about))


def verify(entry: Path) -> None:
    """Raise BrokenEntry unless every file has the content of the manifest.

    Reads only the files with another modification time or inode than recorded. Raises UserError if
    a file cannot be read.
    """
    _verify(entry, read_all=False)


def verify_contents(entry: Path) -> None:
    """Verify an entry as `verify` does, but read every file."""
    _verify(entry, read_all=True)


def distrust(entry: Path) -> None:
    """Let `verify` read every file of an entry again, so that a damaged one is not used."""
    with suppress(OSError, BrokenEntry, UserError):
        manifest = read(entry)
        files = tuple(replace(file, mtime_ns=None, inode=None) for file in manifest.files)
        _write(entry / MANIFEST, replace(manifest, files=files))


def touch(entry: Path) -> None:
    """Note that an entry is used now, in the modification time of its manifest, if possible."""
    with suppress(OSError):
        os.utime(entry / MANIFEST)


def _verify(entry: Path, *, read_all: bool) -> None:
    manifest = read(entry)
    try:
        recorded = {file.path: file for file in manifest.files}
        found = dict(store.files(entry))
        if recorded.keys() != found.keys():
            raise BrokenEntry(f"{entry} does not have the files of its manifest")
        now = tuple(_verify_file(found[name], recorded[name], read_all) for name in recorded)
    except PermissionError as error:
        raise store.unreadable_error(error) from error
    if now != manifest.files:
        _refresh(entry, manifest, Manifest(now, manifest.about))


def _verify_file(file: Path, recorded: RecordedFile, read_all: bool) -> RecordedFile:
    stamp = Stamp.of(file.stat())
    if not read_all and recorded.has_stamp(stamp):
        if not os.access(file, os.R_OK):
            raise PermissionError(13, "Permission denied", str(file))
        return recorded
    if stamp.size != recorded.size or digests.sha256(file) != recorded.sha256:
        raise BrokenEntry(f"{file} differs from its manifest")
    return RecordedFile.of(recorded.path, file, recorded.sha256)


def _refresh(entry: Path, before: Manifest, now: Manifest) -> None:
    """Record the new stamps, where a file can be replaced, unless the entry was built again."""
    with suppress(OSError, BrokenEntry, UserError):
        if not databricks.is_object_storage(entry) and read(entry) == before:
            _write(entry / MANIFEST, now)


def _write(file: Path, manifest: Manifest) -> None:
    content: dict[str, Any] = {"files": [asdict(each) for each in manifest.files]}
    if manifest.about:
        content["about"] = manifest.about
    store.replace_text(file, json.dumps(content, indent=2))
