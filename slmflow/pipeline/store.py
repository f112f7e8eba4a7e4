"""The store: a content-addressed folder of large files, outside the project (`SLMFLOW_HOME`).

<home>/<kind>/<key>/       a finished entry, read-only by custom, with `manifest.json` in it
<home>/building/           entries being made; renamed into place when whole
<home>/downloads/          what has come of a download that was cut off
<home>/locks/              one lock file per entry

Of a store on a Databricks Volume only the entries are there. All else lies in the driver's
temporary folder, since a Volume knows no rename, no lock and no writing but from front to back. An
entry is copied, its manifest last: without that it is not whole.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.system import databricks, locks

MANIFEST = "manifest.json"

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class BrokenEntry(Exception):
    """A store entry whose files are not those of its manifest; the message names the first."""


def home() -> Path:
    """Return the absolute folder of the store: `SLMFLOW_HOME`, or one in the user's cache."""
    chosen = os.environ.get("SLMFLOW_HOME")
    return Path(chosen).absolute() if chosen else platformdirs.user_cache_path("slmflow")


def workspace() -> Path:
    """Return where entries are made and locks lie: the store, or scratch where it is a Volume."""
    return databricks.scratch_folder() if databricks.is_object_storage(home()) else home()


def get_or_build(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """Return the folder of entry `key`, made by `build(folder)` if it is not there whole.

    `build` fills a temporary folder, which gets a manifest and is renamed into place; if it
    raises, nothing is kept. Two processes that want the same entry: one builds, the other waits.
    Raises UserError where the store cannot be written.
    """
    entry = home() / kind / key
    with lock(f"{kind}-{key}"):
        if entry.exists():
            try:
                verify(entry)
                return entry
            except BrokenEntry as broken:
                messages.warning(f"{broken}; making it anew")
        with _room(), _building(kind, key) as folder:
            if entry.exists():
                shutil.rmtree(entry)
            build(folder)
            _write_manifest(folder)
            _put_in_place(folder, entry)
    return entry


def remove(kind: str, key: str) -> None:
    """Remove an entry, and the folder of its kind where that was the last.

    Raises UserError where the store cannot be written.
    """
    with lock(f"{kind}-{key}"):
        shutil.rmtree(home() / kind / key, ignore_errors=True)
    with suppress(OSError):
        (home() / kind).rmdir()


def verify(entry: Path) -> None:
    """Raise Broken unless every file of the entry has the size and sha256 of its manifest."""
    try:
        manifest = json.loads((entry / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise BrokenEntry(f"{entry} has no readable manifest") from error
    expected = {file["path"]: (file["size"], file["sha256"]) for file in manifest["files"]}
    if set(expected) != {path for path, _ in _files(entry)}:
        raise BrokenEntry(f"{entry} has other files than its manifest")
    for path, (size, digest) in expected.items():
        file = entry / path
        if file.stat().st_size != size or sha256(file) != digest:
            raise BrokenEntry(f"{file} is not what its manifest says")


def manifest(entry: Path) -> dict[str, str]:
    """Return the sha256 of each file of an entry, by its path inside it."""
    files = json.loads((entry / MANIFEST).read_text())["files"]
    return {file["path"]: file["sha256"] for file in files}


def sha256(file: Path) -> str:
    """Return the hexadecimal sha256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(path: Path) -> str:
    """Return a sha256 over a file's bytes, or over the paths and bytes of a folder's files.

    Raises UserError where a file cannot be read.
    """
    try:
        if path.is_file():
            return sha256(path)
        listing = [f"{name} {sha256(file)}" for name, file in _files(path)]
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read ({error.strerror}): give yourself the right to"
        ) from error
    return hashlib.sha256("\n".join(listing).encode()).hexdigest()


def _put_in_place(folder: Path, entry: Path) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    if not databricks.is_object_storage(entry):
        folder.rename(entry)
        return
    for name in (*(name for name, _ in _files(folder)), MANIFEST):
        (entry / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, entry / name)


def _files(folder: Path) -> list[tuple[str, Path]]:
    found = [file for file in folder.rglob("*") if file.is_file() and file != folder / MANIFEST]
    return sorted((file.relative_to(folder).as_posix(), file) for file in found)


def _write_manifest(folder: Path) -> None:
    files = [
        {"path": name, "size": file.stat().st_size, "sha256": sha256(file)}
        for name, file in _files(folder)
    ]
    (folder / MANIFEST).write_text(json.dumps({"files": files}, indent=2))


def lock_file(name: str) -> Path:
    """Return the file of a lock, in a folder that is there."""
    file = workspace() / "locks" / f"{name}.lock"
    _make_folder(file.parent)
    return file


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold a lock that one process has at a time; say so if another has it, and wait."""
    held = FileLock(lock_file(name))
    with _writable():
        try:
            held.acquire(blocking=False)
        except Timeout:
            messages.info(f"waiting for another process that makes {name.split('-')[0]}")
            held.acquire()
    try:
        yield
    finally:
        held.release()


def remove_abandoned_builds() -> None:
    """Remove what processes were making that are no more: nobody holds the entry's lock."""
    for left in (workspace() / "building").glob("*"):
        with locks.try_hold(lock_file(left.name)) as is_free:
            if is_free:
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _building(kind: str, key: str) -> Iterator[Path]:
    """Yield an empty folder for an entry whose lock is held: what is in it is of a dead process."""
    folder = workspace() / "building" / f"{kind}-{key}"
    shutil.rmtree(folder, ignore_errors=True)
    _make_folder(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_folder(folder: Path) -> None:
    with _writable():
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def _writable() -> Iterator[None]:
    """Raise UserError for what hinders the block, which does nothing but write to the store."""
    try:
        yield
    except OSError as error:
        raise _unwritable(error) from error


@contextmanager
def _room() -> Iterator[None]:
    """Raise UserError where the block, which reads elsewhere too, finds no room in the store."""
    try:
        yield
    except OSError as error:
        # NumPy tells in its own words that a disk is full.
        if error.errno in _NO_ROOM or str(error).endswith(" written"):
            raise _unwritable(error) from error
        if not (home() / "building").exists():
            raise UserError(
                f"the store {home()} was removed while it was written: run the same command again"
            ) from error
        raise


def _unwritable(error: OSError) -> UserError:
    return UserError(
        f"the store {home()} cannot be written ({error.strerror or error}): "
        "set SLMFLOW_HOME to a folder with room that you may write to"
    )
