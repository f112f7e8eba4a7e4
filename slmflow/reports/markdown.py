"""Build Markdown: tables, and escaped text and code."""

import html
import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\`*_\[\]|~#$!]|:(?=//))")


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    left_aligned: Sequence[str] | None = None,
) -> str:
    """Return a table; columns are right-aligned, except the first or those in `left_aligned`.

    left_aligned: headings.
    """
    left = header[:1] if left_aligned is None else left_aligned
    rule = ["---" if heading in left else "---:" for heading in header]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *rows])


def text(value: str) -> str:
    """Escape any text for a line or a table cell, and join its lines."""
    return html.escape(_SPECIAL.sub(r"\\\1", " ".join(value.split())), quote=False)


def code(value: str) -> str:
    """Return any text as inline code on one line."""
    line = " ".join(value.split())
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    return f"{fence} {line} {fence}" if len(fence) > 1 else f"`{line}`"
