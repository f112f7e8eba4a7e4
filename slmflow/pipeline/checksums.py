"""The sha256 checksums of a folder's files."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from slmflow.pipeline.digests import sha256

LINK = "a link"
"""In place of the checksum of a link: its target may change unnoticed."""


def compute(folder: Path, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the hexadecimal sha256 of each file below a folder, by relative path.

    known: the sums of files that need not be read.
    """
    files = {path.relative_to(folder).as_posix(): path for path in _files_and_links(folder)}
    known = known or {}
    return {name: _checksum(path, known.get(name)) for name, path in sorted(files.items())}


def compare(expected: Mapping[str, str], actual: Mapping[str, str]) -> str:
    """Return the files that differ, e.g. `changed: 'MLmodel'; added: 'z'`; empty if none does."""
    kinds = {
        **{path: "changed" for path in expected if actual.get(path) != expected[path]},
        **dict.fromkeys(expected.keys() - actual.keys(), "missing"),
        **dict.fromkeys(actual.keys() - expected.keys(), "added"),
    }
    return "; ".join(f"{kind}: {path!r}" for path, kind in sorted(kinds.items()))


def _files_and_links(folder: Path) -> Iterator[Path]:
    """Yield every file and every link, without following links to folders."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in files)
        yield from (link for name in folders if (link := Path(parent, name)).is_symlink())


def _checksum(path: Path, known: str | None) -> str:
    is_file = path.is_file() and not path.is_symlink()
    return (known or sha256(path)) if is_file else LINK
