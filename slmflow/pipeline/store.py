"""The store: a content-addressed folder of large files, outside the project (`SLMFLOW_HOME`).

<home>/<kind>/<key>/       a finished entry, read-only by convention, with `manifest.json`
<home>/building/           entries being built; renamed into place when complete
<home>/downloads/          partial downloads
<home>/unfinished/         what builds can continue with after a kill, for a week
<home>/locks/              one lock file per entry

On a Databricks Volume the store has only the entries. All else is in the driver's temporary folder,
since a Volume supports no rename, no lock and only sequential writes. Entries are copied there, the
manifest last: without it an entry is incomplete.
"""

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.system import databricks, locks

MANIFEST = "manifest.json"

# Unfinished work that nobody has continued for so long is removed: its key may never come again.
_UNFINISHED_DAYS = 7

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class BrokenEntry(Exception):
    """A store entry that differs from its manifest; the message names the first file."""


def home() -> Path:
    """Return the absolute folder of the store: `SLMFLOW_HOME`, or one in the user's cache."""
    configured = os.environ.get("SLMFLOW_HOME")
    return Path(configured).absolute() if configured else platformdirs.user_cache_path("slmflow")


def workspace() -> Path:
    """Return the folder for builds and locks: the store, or scratch if the store is a Volume."""
    return databricks.scratch_folder() if databricks.is_object_storage(home()) else home()


def get_or_build(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """Return the folder of an entry; call `build(folder)` if it is missing or broken.

    `build` fills a temporary folder, which gets a manifest and is renamed into place. If it raises,
    nothing is kept. Of two processes that need the same entry, one builds and the other waits.
    Raises UserError if the store cannot be written.
    """
    entry = home() / kind / key
    with lock(f"{kind}-{key}"):
        if entry.exists():
            try:
                verify(entry)
                return entry
            except BrokenEntry as broken:
                messages.warning(f"{broken}; building it again")
        with _explain_full_disk(), _build_folder(kind, key) as folder:
            if entry.exists():
                shutil.rmtree(entry)
            build(folder)
            _write_manifest(folder)
            _put_in_place(folder, entry)
    return entry


def has(kind: str, key: str) -> bool:
    """Return whether an entry exists; its files may be damaged."""
    return (home() / kind / key).exists()


def remove(kind: str, key: str) -> None:
    """Remove an entry, and the folder of its kind if it is then empty.

    Raises UserError if the store cannot be written.
    """
    with lock(f"{kind}-{key}"):
        shutil.rmtree(home() / kind / key, ignore_errors=True)
    with suppress(OSError):
        (home() / kind).rmdir()


def verify(entry: Path) -> None:
    """Raise BrokenEntry unless every file has the size and sha256 of the manifest."""
    try:
        manifest = json.loads((entry / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise BrokenEntry(f"{entry} has no readable manifest") from error
    expected = {file["path"]: (file["size"], file["sha256"]) for file in manifest["files"]}
    if set(expected) != {path for path, _ in _files(entry)}:
        raise BrokenEntry(f"{entry} does not have the files of its manifest")
    for path, (size, digest) in expected.items():
        file = entry / path
        if file.stat().st_size != size or sha256(file) != digest:
            raise BrokenEntry(f"{file} differs from its manifest")


def manifest(entry: Path) -> dict[str, str]:
    """Return the sha256 of each file of an entry, by relative path."""
    files = json.loads((entry / MANIFEST).read_text())["files"]
    return {file["path"]: file["sha256"] for file in files}


def sha256(file: Path) -> str:
    """Return the hexadecimal sha256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def require_free_space(size: int, name: str, folder: Path) -> None:
    """Raise UserError unless the disk of a folder has room for `size` bytes of `name`."""
    if size > (free := shutil.disk_usage(folder).free):
        raise UserError(
            f"{name} needs {size / 1e6:,.1f} MB, but the store has only {free / 1e6:,.1f} MB of "
            "free space: set SLMFLOW_HOME to a folder with more"
        )


def digest(path: Path) -> str:
    """Return a sha256 over a file, or over the names and contents of a folder's files.

    Raises UserError if a file cannot be read.
    """
    try:
        if path.is_file():
            return sha256(path)
        listing = [f"{name} {sha256(file)}" for name, file in _files(path)]
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read ({error.strerror}): grant yourself read access"
        ) from error
    return hashlib.sha256("\n".join(listing).encode()).hexdigest()


def lock_file(name: str) -> Path:
    """Return the file of a lock; create its folder."""
    file = workspace() / "locks" / f"{name}.lock"
    _make_folder(file.parent)
    return file


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold a lock that one process has at a time; if another has it, print a message and wait."""
    file_lock = FileLock(lock_file(name))
    with _explain_unwritable():
        try:
            file_lock.acquire(blocking=False)
        except Timeout:
            messages.info(f"waiting for another process that works on {name.split('-')[0]}")
            file_lock.acquire()
    try:
        yield
    finally:
        file_lock.release()


@contextmanager
def unfinished(kind: str, key: str) -> Iterator[Path]:
    """Yield a folder that may not exist yet, for what a build can continue with after a kill.

    It is removed when the block ends without an exception, or when a week has passed without a new
    file in it.
    """
    folder = workspace() / "unfinished" / f"{kind}-{key}"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()


def remove_abandoned_builds() -> None:
    """Remove the build folders of dead processes: those whose lock is free.

    Unfinished work goes, too, if no file in it has changed for a week.
    """
    for folder in (workspace() / "building").glob("*"):
        with locks.try_hold(lock_file(folder.name)) as is_free:
            if is_free:
                shutil.rmtree(folder, ignore_errors=True)
    oldest = time.time() - _UNFINISHED_DAYS * 24 * 3600
    for folder in (workspace() / "unfinished").glob("*"):
        with suppress(OSError):  # another process may remove it
            if folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(folder: Path, entry: Path) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    if not databricks.is_object_storage(entry):
        folder.rename(entry)
        return
    for name in (*(name for name, _ in _files(folder)), MANIFEST):
        (entry / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, entry / name)


def _files(folder: Path) -> list[tuple[str, Path]]:
    files = [file for file in folder.rglob("*") if file.is_file() and file != folder / MANIFEST]
    return sorted((file.relative_to(folder).as_posix(), file) for file in files)


def _write_manifest(folder: Path) -> None:
    files = [
        {"path": name, "size": file.stat().st_size, "sha256": sha256(file)}
        for name, file in _files(folder)
    ]
    (folder / MANIFEST).write_text(json.dumps({"files": files}, indent=2))


@contextmanager
def _build_folder(kind: str, key: str) -> Iterator[Path]:
    """Yield an empty folder for an entry whose lock is held; a dead process may have left files."""
    folder = workspace() / "building" / f"{kind}-{key}"
    shutil.rmtree(folder, ignore_errors=True)
    _make_folder(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_folder(folder: Path) -> None:
    with _explain_unwritable():
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def _explain_unwritable() -> Iterator[None]:
    """Raise UserError for any OSError: the block only writes to the store."""
    try:
        yield
    except OSError as error:
        raise _unwritable_error(error) from error


@contextmanager
def _explain_full_disk() -> Iterator[None]:
    """Raise UserError if the store's disk is full or read-only; the block also reads elsewhere."""
    try:
        yield
    except OSError as error:
        # NumPy reports a full disk without an errno: "... requested and 0 written".
        if error.errno in _DISK_ERRORS or str(error).endswith(" written"):
            raise _unwritable_error(error) from error
        if not (home() / "building").exists():
            raise UserError(
                f"the store {home()} was removed while in use: run the same command again"
            ) from error
        raise


def _unwritable_error(error: OSError) -> UserError:
    return UserError(
        f"the store {home()} cannot be written ({error.strerror or error}): "
        "set SLMFLOW_HOME to a writable folder with free space"
    )
