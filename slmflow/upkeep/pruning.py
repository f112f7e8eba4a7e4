"""Select what may go from the store, and remove it."""

import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from slmflow.config.schema.store import Store
from slmflow.pipeline import store
from slmflow.system import databricks, locks
from slmflow.upkeep.inventory import JOURNALS, Item
from slmflow.upkeep.usage import Usage

_DAY_S = 24 * 3600


@dataclass(frozen=True)
class Selection:
    """Items that may go, and items that could go but are needed, with what needs them."""

    removable: tuple[Item, ...]
    needed: tuple[tuple[Item, tuple[str, ...]], ...]


def select(items: Sequence[Item], settings: Store, usage: Usage, now: float) -> Selection:
    """Return what the settings say may go, without what a version or a run under way needs.

    Age and model narrow the choice. A size budget takes of that what was not used for longest,
    until the store fits; it spares journals, which are small and long to make.
    """
    chosen = [item for item in items if _is_chosen(item, settings, now)]
    needed = [(item, tuple(usage.of(item))) for item in chosen]
    removable = [item for item, by in needed if not by]
    if settings.max_size_mb is not None:
        excess = sum(item.size_bytes for item in items) - settings.max_size_mb * 1e6
        removable = list(_oldest_of_size(removable, excess))
        needed = needed if sum(i.size_bytes for i in removable) < excess else []
    return Selection(tuple(removable), tuple((item, by) for item, by in needed if by))


def what_keeps(
    items: Sequence[Item], removed: Sequence[Item], settings: Store, usage: Usage, now: float
) -> dict[str, int]:
    """Return the bytes of the items that stay by what keeps them; empty if the store fits.

    items: the whole store. It fits if it is no larger than the size budget, or has none.
    """
    budget = settings.max_size_mb
    gone = {item.path for item in removed}
    stay = [item for item in items if item.path not in gone]
    if budget is None or sum(item.size_bytes for item in stay) <= budget * 1e6:
        return {}
    kept: dict[str, int] = {}
    for item in stay:
        reason = _what_keeps(item, settings, usage, now)
        kept[reason] = kept.get(reason, 0) + item.size_bytes
    return kept


def _what_keeps(item: Item, settings: Store, usage: Usage, now: float) -> str:
    if usage.of(item):
        return "needed by registered versions or runs under way"
    if _is_chosen(item, settings, now):
        return "in use by other processes"
    keys = ("model", "older_than_days")
    narrowed = [f"store.{key}" for key in keys if getattr(settings, key) is not None]
    return f"not chosen by {' and '.join(narrowed)}" if narrowed else "journals of measurements"


def remove(item: Item) -> bool:
    """Remove an item unless a process builds it, or used it since it was listed.

    Raises UserError if the store cannot be written.
    """
    with ExitStack() as stack:
        if item.lock is not None:
            is_free = stack.enter_context(locks.try_hold(store.lock_file(item.lock)))
            if not is_free:
                return False
        if _last_use(item) > item.last_used:
            return False
        with store.explain_unwritable():
            _remove(item)
    return True


def _is_chosen(item: Item, settings: Store, now: float) -> bool:
    if settings.model is not None and item.about.get("model") != settings.model:
        return False
    if settings.older_than_days is not None:
        return item.last_used < now - settings.older_than_days * _DAY_S
    return settings.model is not None or item.kind not in JOURNALS


def _oldest_of_size(items: Sequence[Item], size: float) -> Iterator[Item]:
    for item in sorted(items, key=lambda item: item.last_used):
        if size <= 0:
            return
        size -= item.size_bytes
        yield item


def _last_use(item: Item) -> float:
    """Return when an item was last used; the present for one that is gone or became a link."""
    file = item.path / store.MANIFEST if item.is_entry and not item.is_broken else item.path
    try:
        return time.time() if item.path.is_symlink() else file.lstat().st_mtime
    except OSError:
        return time.time()


def _remove(item: Item) -> None:
    """Remove a file or folder; readers find all of it, or nothing."""
    if databricks.is_object_storage(item.path):
        (item.path / store.MANIFEST).unlink(missing_ok=True)  # first: now it is no entry
        shutil.rmtree(item.path)
        return
    store.make_folder(store.workspace() / "building")
    removed = store.workspace() / "building" / f"pruned-{uuid.uuid4().hex}"
    # By a descriptor of the real folder: a link in its place would lead out of the store.
    parent = os.open(item.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.rename(item.path.name, removed, src_dir_fd=parent)
    finally:
        os.close(parent)
    _delete(removed)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
