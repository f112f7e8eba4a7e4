"""Markdown of the reports."""

import re
from collections.abc import Iterable, Sequence

_MEANT = re.compile(r"([\\`*_\[\]<>|&~#$!]|:(?=//))")


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[str] | None = None
) -> str:
    """Return a table. The columns of `words`, else the first, are left-aligned, all others right.

    `words` are names of the header.
    """
    left = header[:1] if words is None else words
    rule = ["---" if name in left else "---:" for name in header]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *rows])


def text(value: str) -> str:
    """Return a text of anyone's for one line or cell: shown as it is, its white space as blanks."""
    return _MEANT.sub(r"\\\1", " ".join(value.split()))
