"""Keep a process's temporary files in a private folder, which is removed however it ends.

<temp>/slmflow-<store>-<name>/      the temporary files of the process and its libraries
<store>/locks/scratch-<name>.lock   held while the process is alive
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
    """Use a private folder for temporary files, and remove it at the end.

    Removes the folders of dead processes first. Child processes use the system's folder. Does
    nothing if the store or the folder cannot be written.
    """
    name = uuid.uuid4().hex[:12]
    before, base = tempfile.tempdir, Path(tempfile.gettempdir())
    folder = base / f"{_prefix()}{name}"
    with ExitStack() as stack:
        with suppress(UserError, OSError):
            stack.enter_context(locks.hold(_lock_file(name)))
            _remove_abandoned(base)
            folder.mkdir(mode=0o700)
            tempfile.tempdir = str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before
            shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(base: Path) -> None:
    for folder in base.glob(f"{_prefix()}*"):
        with locks.try_hold(_lock_file(folder.name.removeprefix(_prefix()))) as is_free:
            if is_free:
                shutil.rmtree(folder, ignore_errors=True)
    locks.remove_unheld(store.home() / "locks", "scratch-*.lock")


def _lock_file(name: str) -> Path:
    return store.lock_file(f"scratch-{name}")


def _prefix() -> str:
    """Return the prefix of this store's folders: other stores have other locks."""
    return f"slmflow-{hashlib.sha256(str(store.home()).encode()).hexdigest()[:8]}-"
