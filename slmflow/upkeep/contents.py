"""Verify the contents of entries: every file is read again."""

from collections.abc import Sequence

from slmflow.console import messages, progress_bars
from slmflow.errors import UserError
from slmflow.pipeline import manifests
from slmflow.pipeline.manifests import BrokenEntry
from slmflow.upkeep.inventory import Item


def verify(entries: Sequence[Item]) -> None:
    """Verify entries. Raises UserError with all that are damaged, which are then built again."""
    damaged = []
    with progress_bars.byte_bar() as progress:
        total = sum(entry.size_bytes for entry in entries)
        task = progress.add_task("reading the store", total=total)
        for entry in entries:
            try:
                manifests.verify_contents(entry.path)
            except BrokenEntry as broken:
                damaged.append(str(broken))
                manifests.distrust(entry.path)
            progress.advance(task, entry.size_bytes)
    if damaged:
        count = f"{len(damaged)} of {len(entries)} entries"
        raise UserError(
            f"{count} of the store are damaged, and are built again when a step needs them:\n"
            + "\n".join(damaged)
        )
    messages.info(f"all {len(entries)} entries of the store are as they were built")
