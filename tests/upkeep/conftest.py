"""A store with entries of two models, and a tracking server."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from slmflow.measurement.journal import Journal
from slmflow.pipeline import entries, store

DAY_S = 24 * 3600


@dataclass(frozen=True)
class FilledStore:
    """Creates what steps leave in the store."""

    home: Path

    def add(self, kind: str, key: str, *, days: float = 0, size: int = 1000, **about: str) -> Path:
        """Add an entry that was last used so many days ago."""

        def build(folder: Path) -> None:
            (folder / "data").write_bytes(os.urandom(size))

        entry = entries.get_or_build(kind, key * 64, build, about)
        _set_age(entry / store.MANIFEST, days)
        return entry

    def add_file(
        self, kind: str, name: str, *, days: float = 0, size: int = 2, model: str = ""
    ) -> Path:
        """Add a journal with one record, of this model."""
        Journal(kind, name.removesuffix(".jsonl"), model).append({"row": "x" * size})
        file = self.home / kind / name
        _set_age(file, days)
        return file


def _set_age(file: Path, days: float) -> None:
    used = time.time() - days * DAY_S
    os.utime(file, (used, used))


@pytest.fixture
def filled(tracking: str, tmp_path: Path) -> FilledStore:
    return FilledStore(tmp_path / "home")


StoreStep = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_store(tracking: str, capsys: pytest.CaptureFixture[str]) -> StoreStep:
    """Run the step; return its exit status, output and messages, each message in one line."""
    from steps.store import main

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(arguments)
        printed = capsys.readouterr()
        return status, printed.out, " ".join(printed.err.split())

    return run
