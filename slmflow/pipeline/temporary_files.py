"""Temporary files of a process: in a folder of its own, which goes with it, however it ends.

<temp>/slmflow-<store>-<name>/      what the process and its libraries put into temporary files
<store>/locks/scratch-<name>.lock   held while the process lives
"""

import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from slmflow.errors import UserError
from slmflow.pipeline import store
from slmflow.system import locks


@contextmanager
def use_private_folder() -> Iterator[None]:
    """Have this process's temporary files in a folder that is removed at the end.

    What dead processes left is removed first. A process that it starts has the system's folder.
    Where the store or the folder cannot be written, nothing changes.
    """
    name = uuid.uuid4().hex[:12]
    before, base = tempfile.tempdir, Path(tempfile.gettempdir())
    folder = base / f"{_prefix()}{name}"
    with ExitStack() as stack:
        with suppress(UserError, OSError):
            stack.enter_context(locks.hold(_lock(name)))
            _remove_dead(base)
            folder.mkdir(mode=0o700)
            tempfile.tempdir = str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before
            shutil.rmtree(folder, ignore_errors=True)


def _remove_dead(base: Path) -> None:
    for left in base.glob(f"{_prefix()}*"):
        with locks.try_hold(_lock(left.name.removeprefix(_prefix()))) as is_free:
            if is_free:
                shutil.rmtree(left, ignore_errors=True)
    locks.remove_unheld(store.home() / "locks", "scratch-*.lock")


def _lock(name: str) -> Path:
    return store.lock_file(f"scratch-{name}")


def _prefix() -> str:
    """Return how the folders of this store's processes begin: other stores have other locks."""
    return f"slmflow-{hashlib.sha256(str(store.home()).encode()).hexdigest()[:8]}-"
