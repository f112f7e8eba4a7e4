"""The entries of the store: built once, verified by their manifest, and removed as a whole."""

import errno
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.pipeline import manifests, store
from slmflow.pipeline.manifests import BrokenEntry
from slmflow.pipeline.store import home, workspace
from slmflow.system import databricks, locks

# Unfinished work that nobody has continued for so long is removed: its key may never come again.
_UNFINISHED_DAYS = 7

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def get_or_build(
    kind: str,
    key: str,
    build: Callable[[Path], None],
    about: Mapping[str, str] | None = None,
    *,
    anew: bool = False,
) -> Path:
    """Return the folder of an entry; call `build(folder)` if it is missing or broken.

    `build` fills a temporary folder, which gets a manifest and is renamed into place. If it raises,
    nothing is kept. Of two processes that need the same entry, one builds and the other waits.
    about: what it is made from and for, for its manifest; anew: build it although it exists, and
    replace it when it is built: who has its files open keeps them. Raises UserError if the store
    cannot be written, or an entry cannot be read.
    """
    entry = home() / kind / key
    if store.is_read_only() and not anew and _is_whole(entry):
        return entry
    with store.lock(f"{kind}-{key}"):
        if not anew and _is_whole(entry):
            return entry
        with _explain_full_disk(), _build_folder(kind, key) as folder:
            if entry.exists() and not anew:
                shutil.rmtree(entry)
            build(folder)
            manifests.write(folder, dict(about or {}))
            with _moved_away(entry):
                _put_in_place(folder, entry)
    return entry


def has(kind: str, key: str) -> bool:
    """Return whether an entry exists; its files may be damaged."""
    return (home() / kind / key).exists()


def remove(kind: str, key: str) -> None:
    """Remove an entry, and the folder of its kind if it is then empty.

    Raises UserError if the store cannot be written.
    """
    with store.lock(f"{kind}-{key}"):
        shutil.rmtree(home() / kind / key, ignore_errors=True)
    with suppress(OSError):
        (home() / kind).rmdir()


@contextmanager
def unfinished(kind: str, key: str, *, anew: bool = False) -> Iterator[Path]:
    """Yield a folder that may not exist yet, for what a build can continue with after a kill.

    It is removed when the block ends without an exception, or when a week has passed without a new
    file in it. anew: remove what an earlier build left.
    """
    folder = workspace() / "unfinished" / f"{kind}-{key}"
    if anew:
        shutil.rmtree(folder, ignore_errors=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()


def remove_abandoned_builds() -> None:
    """Remove the build folders of dead processes: those whose lock is free.

    Unfinished work goes, too, if no file in it has changed for a week.
    """
    if store.is_read_only():
        return
    for folder in (workspace() / "building").glob("*-*"):
        with suppress(UserError), locks.try_hold(store.lock_file(folder.name)) as is_free:
            if is_free:
                shutil.rmtree(folder, ignore_errors=True)
    oldest = time.time() - _UNFINISHED_DAYS * 24 * 3600
    for folder in (workspace() / "unfinished").glob("*"):
        with suppress(OSError):  # another process may remove it
            if folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)


def _is_whole(entry: Path) -> bool:
    """Return whether an entry exists and is intact; note that it is used."""
    if not entry.exists():
        return False
    try:
        manifests.verify(entry)
    except BrokenEntry as broken:
        messages.warning(f"{broken}; building it again")
        return False
    manifests.touch(entry)
    return True


def _put_in_place(folder: Path, entry: Path) -> None:
    store.make_folder(entry.parent)
    if not databricks.is_object_storage(entry):
        store.share_all(folder)
        folder.rename(entry)
        return
    for name, file in store.files(folder):
        (entry / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, entry / name)
    manifests.copy(folder, entry)


@contextmanager
def _moved_away(entry: Path) -> Iterator[None]:
    """Move an entry that exists out of the way of its successor, and delete it afterwards."""
    if not entry.exists():
        yield
        return
    if databricks.is_object_storage(entry):
        shutil.rmtree(entry)
        yield
        return
    replaced = workspace() / "building" / f"{entry.parent.name}-{entry.name}-replaced"
    shutil.rmtree(replaced, ignore_errors=True)
    entry.rename(replaced)
    try:
        yield
    except BaseException:
        if not entry.exists():
            replaced.rename(entry)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def _build_folder(kind: str, key: str) -> Iterator[Path]:
    """Yield an empty folder for an entry whose lock is held; a dead process may have left files."""
    folder = workspace() / "building" / f"{kind}-{key}"
    shutil.rmtree(folder, ignore_errors=True)
    store.make_folder(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _explain_full_disk() -> Iterator[None]:
    """Raise UserError if the store's disk is full or read-only; the block also reads elsewhere."""
    try:
        yield
    except OSError as error:
        # NumPy reports a full disk without an errno: "... requested and 0 written".
        if error.errno in _DISK_ERRORS or str(error).endswith(" written"):
            raise store.unwritable_error(error) from error
        if isinstance(error, PermissionError) and _is_in_store(error):
            raise store.unwritable_error(error) from error
        if not (home() / "building").exists():
            raise UserError(
                f"the store {home()} was removed while in use: run the same command again"
            ) from error
        raise


def _is_in_store(error: OSError) -> bool:
    return any(
        isinstance(name, str) and Path(name).is_relative_to(home())
        for name in (error.filename, error.filename2)
    )
