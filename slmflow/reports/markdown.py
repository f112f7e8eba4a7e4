"""Markdown of the reports."""

import html
import re
from collections.abc import Iterable, Sequence

_MEANT = re.compile(r"([\\`*_\[\]|~#$!]|:(?=//))")


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
    """Return anyone's text for within a line or a cell: shown as it is, but on one line."""
    return html.escape(_MEANT.sub(r"\\\1", " ".join(value.split())), quote=False)


def code(value: str) -> str:
    """Return anyone's text as code on one line."""
    told = " ".join(value.split())
    fence = "`" * (max(map(len, re.findall("`+", told)), default=0) + 1)
    return f"{fence} {told} {fence}" if len(fence) > 1 else f"`{told}`"
