"""File locks that show whether a process is alive: the system frees them when it ends."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def hold(file: Path) -> Iterator[None]:
    """Hold the lock of a file that no other process holds; then remove the file."""
    with FileLock(file):
        try:
            yield
        finally:
            with suppress(OSError):
                file.unlink()


@contextmanager
def try_hold(file: Path) -> Iterator[bool]:
    """Hold the lock of a file if it is free; yield whether it was."""
    lock = FileLock(file)
    try:
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
