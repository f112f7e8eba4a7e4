"""The sha256 checksums of a folder's files."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from slmflow.pipeline.store import sha256

LINK = "a link"
"""In place of the checksum of a link: its target may change unnoticed."""


def compute(folder: Path) -> dict[str, str]:
    """Return the hexadecimal sha256 of each file below a folder, by relative path."""
    files = {path.relative_to(folder).as_posix(): path for path in _files_and_links(folder)}
    return {name: _checksum(path) for name, path in sorted(files.items())}


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


def _checksum(path: Path) -> str:
    return sha256(path) if path.is_file() and not path.is_symlink() else LINK
