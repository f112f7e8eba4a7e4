"""File locks that show whether a process is alive: the system frees them when it ends."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypedDict

from filelock import FileLock, Timeout

_SHARED_MODE = 0o664


class LockOptions(TypedDict, total=False):
    """The arguments of `FileLock` for a folder."""

    mode: int


def is_shared(folder: Path) -> bool:
    """Return whether a folder gives its group to all in it, and the group may write (`g+ws`)."""
    mode = folder.stat().st_mode
    return bool(mode & stat.S_ISGID and mode & stat.S_IWGRP)


def options(folder: Path) -> LockOptions:
    """Return the options of a lock file: in a shared folder the group may lock it, too."""
    return {"mode": _SHARED_MODE} if is_shared(folder) else {}


@contextmanager
def hold(file: Path) -> Iterator[None]:
    """Hold the lock of a file that no other process holds; then remove the file."""
    with FileLock(file, **options(file.parent)):
        try:
            yield
        finally:
            with suppress(OSError):
                file.unlink()


@contextmanager
def try_hold(file: Path) -> Iterator[bool]:
    """Hold the lock of a file if it is free; yield whether it was."""
    try:
        lock = FileLock(file, **options(file.parent))
        lock.acquire(blocking=False)
    except (Timeout, OSError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def remove_unheld(folder: Path, pattern: str) -> None:
    """Remove the lock files of `hold` that dead processes left."""
    for file in folder.glob(pattern):
        with try_hold(file) as is_free, suppress(OSError):
            if is_free:
                file.unlink()
