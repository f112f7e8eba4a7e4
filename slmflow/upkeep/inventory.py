"""What lies in the store: entries, journals, downloads, and what was left unfinished."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from slmflow.measurement import journal
from slmflow.pipeline import manifests, store
from slmflow.pipeline.manifests import BrokenEntry

JOURNALS = ("answers", "timings", "lm_eval")
DOWNLOADS, UNFINISHED, DIGESTS = "downloads", "unfinished", "digests"
_FOLDERS = (DOWNLOADS, UNFINISHED, store.BATCH)
_OTHERS = (*JOURNALS, *_FOLDERS, DIGESTS)
_KEY = re.compile(r"[0-9a-f]{64}")
_KIND = re.compile(r"[a-z]+(-[a-z]+)*")


@dataclass(frozen=True)
class Item:
    """A file or folder of the store that can be removed as a whole.

    last_used: in seconds since the epoch; about: what an entry was made from and for, by name.
    """

    kind: str
    name: str
    path: Path
    size_bytes: int
    last_used: float
    about: dict[str, str] = field(default_factory=dict)
    is_entry: bool = False
    is_broken: bool = False

    @property
    def lock(self) -> str | None:
        """The name of the lock that whoever builds or continues it holds."""
        if self.is_entry:
            return f"{self.kind}-{self.name}"
        if self.kind == DOWNLOADS:
            return f"{DOWNLOADS}-{self.name}"
        # `convert` holds the lock of its entry while it continues what `unfinished` has.
        return f"onnx-{self.name.rpartition('-')[2]}" if self.kind == UNFINISHED else None

    @property
    def subject(self) -> str:
        """What it was made from and for, such as `tiny_phi3 cpu_int4`."""
        return " ".join(self.about.values())


def scan() -> list[Item]:
    """Return all that lies in the store, the largest first.

    Links are left out, and so is what they lead to: it may be outside the store.
    """
    items = [*_entries(store.home()), *_others(store.workspace())]
    return sorted(items, key=lambda item: (-item.size_bytes, item.kind, item.name))


def _entries(home: Path) -> Iterator[Item]:
    for kind in _real_children(home, stat.S_ISDIR):
        if kind.name in _OTHERS or not _KIND.fullmatch(kind.name):
            continue
        for folder in _real_children(kind, stat.S_ISDIR):
            if _KEY.fullmatch(folder.name):
                yield _entry(kind.name, folder)


def _entry(kind: str, folder: Path) -> Item:
    size = _size(folder)
    try:
        about = manifests.read(folder).about
        used = (folder / store.MANIFEST).stat().st_mtime
    except (BrokenEntry, OSError):
        used = folder.lstat().st_mtime
        return Item(kind, folder.name, folder, size, used, is_entry=True, is_broken=True)
    return Item(kind, folder.name, folder, size, used, about, is_entry=True)


def _others(workspace: Path) -> Iterator[Item]:
    for kind in _OTHERS:
        is_kind = stat.S_ISDIR if kind in _FOLDERS else stat.S_ISREG
        if (workspace / kind).is_symlink():
            continue
        for path in _real_children(workspace / kind, is_kind):
            names = journal.model_names(path) if kind in JOURNALS else []
            about = {"model": ", ".join(names)} if names else {}
            yield Item(kind, path.name, path, _size(path), _newest_change(path), about)


def _real_children(folder: Path, is_kind: Callable[[int], bool]) -> list[Path]:
    """Return the children of a folder of one kind of file, never links."""
    try:
        return sorted(path for path in folder.iterdir() if is_kind(path.lstat().st_mode))
    except OSError:
        return []


def _size(path: Path) -> int:
    """Return the bytes of a file or of all files below a folder, without following links."""
    return sum(each.lstat().st_size for each in _files_below(path))


def _newest_change(path: Path) -> float:
    return max([path.lstat().st_mtime, *(file.lstat().st_mtime for file in _files_below(path))])


def _files_below(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
    for parent, _, names in os.walk(path):
        yield from (Path(parent, name) for name in names)
