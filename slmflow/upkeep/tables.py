"""The store as plain tables, which a program can read, too."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from slmflow.upkeep.inventory import Item

_HEADING = ("kind", "key", "from", "MB", "last used", "used by")
_RIGHT = _HEADING.index("MB")
_KEY_LENGTH = 12


def render(items: Sequence[Item], used_by: Callable[[Item], Sequence[str]]) -> str:
    """Return a line for each entry, one for the other files of a kind and model, and the total."""
    entries = [_row(item, used_by(item)) for item in items if item.is_entry]
    others = sorted((item for item in items if not item.is_entry), key=_kind_and_subject)
    summaries = [_summary(*of, [*group]) for of, group in groupby(others, _kind_and_subject)]
    total = ("total", "", "", _megabytes(items), "", "")
    return _align([_HEADING, *entries, *summaries, total])


def name(item: Item) -> str:
    """Return the name of an item in messages."""
    return f"{item.kind}/{item.name[:_KEY_LENGTH] if item.is_entry else item.name}"


def describe_needed(needed: Iterable[tuple[Item, Sequence[str]]]) -> Iterator[str]:
    """Yield why items stay: a sentence for each entry, and one for the other files of a kind."""
    names: dict[tuple[str, str], int] = {}
    for item, used_by in needed:
        what = name(item) if item.is_entry else item.kind
        line = what, ", ".join(used_by)
        names[line] = names.get(line, 0) + 1
    for (what, used_by), count in names.items():
        yield f"{what}{f' ({count})' * (count > 1)} stays: used by {used_by}"


def _row(item: Item, used_by: Sequence[str]) -> tuple[str, ...]:
    subject = f"{item.subject or '-'}{' (broken)' * item.is_broken}"
    more = f" and {len(used_by) - 1} more" if len(used_by) > 1 else ""
    by = f"{used_by[0]}{more}" if used_by else "-"
    return (
        *(item.kind, item.name[:_KEY_LENGTH], subject),
        *(_megabytes([item]), _day(item.last_used), by),
    )


def _kind_and_subject(item: Item) -> tuple[str, str]:
    return item.kind, item.subject


def _summary(kind: str, subject: str, items: Sequence[Item]) -> tuple[str, ...]:
    newest = max(item.last_used for item in items)
    return kind, f"({len(items)})", subject or "-", _megabytes(items), _day(newest), "-"


def _megabytes(items: Iterable[Item]) -> str:
    return f"{sum(item.size_bytes for item in items) / 1e6:,.1f}"


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds))


def _align(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        pairs = zip(row, widths, strict=True)
        cells = [
            cell.rjust(width) if place == _RIGHT else cell.ljust(width)
            for place, (cell, width) in enumerate(pairs)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
