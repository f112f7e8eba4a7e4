"""The sums of a logged model's files that are copies of a store entry's."""

import os
import shutil
from pathlib import Path

import pytest

from slmflow.flavors.provenance import SourceEntry
from slmflow.pipeline import checksums, digests, entries, manifests

KEY = "0" * 64


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SourceEntry:
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "home"))

    def build(folder: Path) -> None:
        (folder / "weights").write_bytes(os.urandom(digests.LARGE_BYTES))
        (folder / "config.json").write_text("{}")

    entry = entries.get_or_build("weights", KEY, build)
    return SourceEntry("fetch", f"weights/{KEY}", "model", manifests.checksums(entry))


@pytest.fixture
def model(source: SourceEntry, tmp_path: Path) -> Path:
    """A folder with a copy of the entry, made as MLflow makes it."""
    shutil.copytree(tmp_path / "home" / source.entry, tmp_path / "logged" / "model")
    return tmp_path / "logged"


def test_sum_of_a_copy_is_that_of_the_entry(source: SourceEntry, model: Path) -> None:
    known = dict(source.unchanged_copies(model))

    assert known == {"model/weights": source.files["weights"]}
    assert checksums.compute(model, known) == checksums.compute(model)


def test_changed_copy_is_read(source: SourceEntry, model: Path) -> None:
    with (model / "model" / "weights").open("r+b") as file:
        file.write(b"changed")

    assert dict(source.unchanged_copies(model)) == {}


def test_link_has_no_known_sum(source: SourceEntry, model: Path, tmp_path: Path) -> None:
    copy = model / "model" / "weights"
    copy.unlink()
    copy.symlink_to(tmp_path / "home" / source.entry / "weights")

    known = dict(source.unchanged_copies(model))

    assert checksums.compute(model, known)["model/weights"] == checksums.LINK
