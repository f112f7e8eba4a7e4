"""sha256 sums of a folder's files, and what has become of the files since."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from slmflow.pipeline.store import sha256

LINK = "a link"
"""In place of a sum, for what is no plain file: its bytes lie elsewhere and may change unseen."""


@dataclass(frozen=True)
class Difference:
    """A file that is not what was recorded: `changed`, `missing` or `added`."""

    path: str
    kind: str

    def __str__(self) -> str:
        """Return e.g. `changed: 'MLmodel'`."""
        return f"{self.kind}: {self.path!r}"


def compute(folder: Path) -> dict[str, str]:
    """Return the hexadecimal sha256 of each file below a folder, by its path inside it."""
    found = {path.relative_to(folder).as_posix(): path for path in _below(folder)}
    return {name: _sum(path) for name, path in sorted(found.items())}


def compare(recorded: Mapping[str, str], found: Mapping[str, str]) -> list[Difference]:
    """Return the files whose sums differ from the recorded ones, in the order of their paths."""
    kinds = {
        **{path: "changed" for path in recorded if found.get(path) != recorded[path]},
        **dict.fromkeys(recorded.keys() - found.keys(), "missing"),
        **dict.fromkeys(found.keys() - recorded.keys(), "added"),
    }
    return [Difference(path, kind) for path, kind in sorted(kinds.items())]


def _below(folder: Path) -> Iterator[Path]:
    """Yield every file, and every link, to a folder too: none is followed."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in files)
        yield from (link for name in folders if (link := Path(parent, name)).is_symlink())


def _sum(path: Path) -> str:
    return sha256(path) if path.is_file() and not path.is_symlink() else LINK
