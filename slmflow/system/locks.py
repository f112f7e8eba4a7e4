"""Locks that tell whether a process lives: the system frees them when it ends in any way."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Hold the lock of a file that nobody else asks to hold; the file goes with it."""
    with FileLock(file):
        try:
            yield
        finally:
            with suppress(OSError):
                file.unlink()


@contextmanager
def taken_over(file: Path) -> Iterator[bool]:
    """Yield whether nobody holds the lock of a file; if so, nobody does while the block runs."""
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


def clear(folder: Path, pattern: str) -> None:
    """Remove the lock files that nobody holds: those of `held`, whose processes are no more."""
    for file in folder.glob(pattern):
        with taken_over(file) as is_free, suppress(OSError):
            if is_free:
                file.unlink()
