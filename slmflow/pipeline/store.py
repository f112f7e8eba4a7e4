"""The store: a content-addressed folder of large files, outside the project (`SLMFLOW_HOME`).

<home>/<kind>/<key>/       a finished entry, read-only by convention, with `manifest.json`
<home>/answers/, timings/  journals of measurements
<home>/building/           entries being built; renamed into place when complete
<home>/downloads/          partial downloads
<home>/unfinished/         what builds can continue with after a kill, for a week
<home>/digests/            the digests of users' folders, by which they are not read again
<home>/locks/              one lock file per entry

Here are its place, its locks and its permissions; `entries` builds what lies in it.

On a Databricks Volume the store has only the entries. All else is in the driver's temporary folder,
since a Volume supports no rename, no lock and only sequential writes. Entries are copied there, the
manifest last: without it an entry is incomplete.

Several users can share a store whose folder has the set-group-ID bit (`chmod g+ws`): what is
created there becomes writable for the group whatever the user's umask. From a store that cannot be
written, entries are read without locks.
"""

import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.system import databricks, locks

MANIFEST = "manifest.json"

BATCH = "batch"
"""The folder for outputs of batch jobs that are not uploaded yet."""

_SHARED_FOLDER = stat.S_ISGID | stat.S_IRWXG
_SHARED_FILE = stat.S_IRGRP | stat.S_IWGRP


def home() -> Path:
    """Return the absolute folder of the store: `SLMFLOW_HOME`, or one in the user's cache."""
    configured = os.environ.get("SLMFLOW_HOME")
    return Path(configured).absolute() if configured else platformdirs.user_cache_path("slmflow")


def workspace() -> Path:
    """Return the folder for builds and locks: the store, or scratch if the store is a Volume."""
    return databricks.scratch_folder() if databricks.is_object_storage(home()) else home()


def files(folder: Path) -> list[tuple[str, Path]]:
    """Return the files below a folder by relative path, sorted; without its manifest.

    Raises OSError for a folder that cannot be read.
    """
    found = []
    for parent, _, names in os.walk(folder, onerror=_raise):
        paths = (Path(parent, name) for name in names)
        found += [path for path in paths if path.is_file() and path != folder / MANIFEST]
    return sorted((file.relative_to(folder).as_posix(), file) for file in found)


def require_free_space(size: int, name: str, folder: Path) -> None:
    """Raise UserError unless the disk of a folder has room for `size` bytes of `name`."""
    if size > (free := shutil.disk_usage(folder).free):
        raise UserError(
            f"{name} needs {size / 1e6:,.1f} MB, but the store has only {free / 1e6:,.1f} MB of "
            "free space: set SLMFLOW_HOME to a folder with more"
        )


def is_read_only() -> bool:
    """Return whether the store exists and this user cannot write to it."""
    return workspace().is_dir() and not os.access(workspace(), os.W_OK)


def lock_file(name: str) -> Path:
    """Return the file of a lock; create its folder."""
    file = workspace() / "locks" / f"{name}.lock"
    make_folder(file.parent)
    return file


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold a lock that one process has at a time; if another has it, print a message and wait.

    A store that cannot be written has no locks: nothing is built there. Raises UserError if only
    the lock cannot be taken.
    """
    if is_read_only():
        yield
        return
    file = lock_file(name)
    file_lock = FileLock(file, **locks.options(file.parent))
    with explain_unwritable():
        try:
            file_lock.acquire(blocking=False)
        except Timeout:
            messages.info(f"waiting for another process that works on {name.split('-')[0]}")
            file_lock.acquire()
    try:
        yield
    finally:
        file_lock.release()


def make_folder(folder: Path) -> None:
    """Create a folder of the store. Raises UserError if that is impossible."""
    with explain_unwritable():
        missing = []
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for each in reversed(missing):
            each.mkdir(exist_ok=True)
            share(each)


def share(path: Path) -> None:
    """Let the group write to a new file or folder, if the group may write beside it."""
    with suppress(OSError):  # it belongs to another user, or the store is a Volume
        if locks.is_shared(path.parent):
            added = _SHARED_FOLDER if path.is_dir() else _SHARED_FILE
            path.chmod(stat.S_IMODE(path.stat().st_mode) | added)


def share_all(folder: Path) -> None:
    """Let the group write to a new folder and to all in it, if it may write beside the folder."""
    if locks.is_shared(folder.parent):
        share(folder)
        for parent, folders, names in os.walk(folder):
            for name in (*folders, *names):
                share(Path(parent, name))


def replace_text(file: Path, text: str, scratch: Path | None = None) -> None:
    """Write a small file at once: readers find the old content or the new one.

    scratch: a folder on the same disk for the unfinished file; by default one of the store.
    """
    if databricks.is_object_storage(file):
        file.write_text(text)
        return
    scratch = scratch or workspace() / "building"
    make_folder(scratch)
    written = scratch / f"text-{uuid.uuid4().hex}"
    try:
        written.write_text(text)
        share(written)
        written.replace(file)
    finally:
        written.unlink(missing_ok=True)


@contextmanager
def explain_unwritable() -> Iterator[None]:
    """Raise UserError for any OSError: the block only writes to the store."""
    try:
        yield
    except OSError as error:
        raise unwritable_error(error) from error


def unwritable_error(error: OSError) -> UserError:
    """Return the error to show if the store cannot be written: which file, and its mode."""
    return UserError(
        f"the store {home()} cannot be written ({error.strerror or error}{_permissions(error)}): "
        "set SLMFLOW_HOME to a writable folder with free space"
        + (_SHARING_ADVICE if isinstance(error, PermissionError) else "")
    )


def unreadable_error(error: PermissionError) -> UserError:
    """Return the error to show if an entry cannot be read: which file, and its mode."""
    return UserError(
        f"the store {home()} cannot be read ({error.strerror}{_permissions(error)}): "
        "set SLMFLOW_HOME to a folder of your own" + _SHARING_ADVICE
    )


_SHARING_ADVICE = (
    ", or ask the owner to share the store with your group: "
    "chgrp -R GROUP STORE; chmod -R g+rwX STORE; find STORE -type d -exec chmod g+s {} +"
)


def _permissions(error: OSError) -> str:
    """Return mode and owner of what a file system refused to change or to read, if it did."""
    if not isinstance(error, PermissionError) or not error.filename:
        return ""
    path = Path(os.fsdecode(error.filename))
    with suppress(OSError):
        while not path.exists():
            path = path.parent
        status = path.stat()
        mode = f"mode {stat.S_IMODE(status.st_mode):04o}, {stat.filemode(status.st_mode)}"
        return f": {path} has {mode}, and belongs to {_owner(path)}"
    return ""


def _owner(path: Path) -> str:
    try:
        return f"{path.owner()}:{path.group()}"
    except KeyError:  # a user without a name here
        status = path.stat()
        return f"{status.st_uid}:{status.st_gid}"


def _raise(error: OSError) -> None:
    raise error
