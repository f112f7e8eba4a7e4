"""Manifests of store entries: what is read again, and what is trusted."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from slmflow.pipeline import digests, entries, manifests, store
from slmflow.pipeline.manifests import BrokenEntry

KEY = "0" * 64
CONTENT = os.urandom(2 * digests.LARGE_BYTES)

ReadFiles = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> ReadFiles:
    """Return the names of the files that were read for their sum since the last call."""
    names: list[str] = []
    compute = hashlib.file_digest

    def count(stream: object, digest: str) -> object:
        names.append(Path(stream.name).name)  # type: ignore[attr-defined]
        return compute(stream, digest)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", count)

    def read() -> list[str]:
        taken = sorted(names)
        names.clear()
        return taken

    return read


def _build(folder: Path) -> None:
    (folder / "weights").write_bytes(CONTENT)
    (folder / "config.json").write_text("{}")


@pytest.fixture
def entry() -> Path:
    return entries.get_or_build("weights", KEY, _build, {"model": "tiny"})


def _flip_byte(file: Path) -> None:
    """Change one byte, and nothing that a listing of the folder shows."""
    status = file.stat()
    with file.open("r+b") as stream:
        stream.write(bytes([CONTENT[0] ^ 1]))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_verifying_again_reads_no_file(entry: Path, hashed: ReadFiles) -> None:
    manifests.verify(entry)
    assert entries.get_or_build("weights", KEY, _build) == entry

    assert hashed() == []


def test_flipped_byte_is_found_by_reading_all(entry: Path) -> None:
    _flip_byte(entry / "weights")
    manifests.verify(entry)

    with pytest.raises(BrokenEntry, match="weights differs"):
        manifests.verify_contents(entry)


def test_flipped_byte_with_new_time_is_found(entry: Path) -> None:
    _flip_byte(entry / "weights")
    os.utime(entry / "weights")

    with pytest.raises(BrokenEntry, match="weights differs"):
        manifests.verify(entry)


def test_restored_copy_is_read_once(
    entry: Path, home: Path, hashed: ReadFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(home, home.with_name("restored"))
    monkeypatch.setenv("SLMFLOW_HOME", str(home.with_name("restored")))
    copy = store.home() / "weights" / KEY

    manifests.verify(copy)
    assert hashed() == ["config.json", "weights"]
    manifests.verify(copy)
    assert hashed() == []
    assert manifests.read(copy).about == {"model": "tiny"}


def test_manifest_of_an_earlier_version_is_completed(entry: Path, hashed: ReadFiles) -> None:
    file = entry / store.MANIFEST
    names = ("path", "size", "sha256")
    files = [{n: each[n] for n in names} for each in json.loads(file.read_text())["files"]]
    before = json.dumps({"files": files}, indent=2)
    file.write_text(before)

    manifests.verify(entry)
    assert hashed() == ["config.json", "weights"]
    manifests.verify(entry)
    assert hashed() == []
    # Tags of versions, and those of equal entries elsewhere, stay as they were.
    assert manifests.read(entry).digest == hashlib.sha256(before.encode()).hexdigest()


def test_copied_file_is_not_read_again(tmp_path: Path, hashed: ReadFiles) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)

    def copy(folder: Path) -> None:
        with source.open("rb") as reader:
            digest = digests.copy(reader, folder / "weights")
        assert digest == hashlib.sha256(CONTENT).hexdigest()

    entry = entries.get_or_build("weights", KEY, copy)

    assert hashed() == []
    manifests.verify_contents(entry)


def test_file_changed_after_copying_is_read(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)

    def copy_and_change(folder: Path) -> None:
        with source.open("rb") as reader:
            digests.copy(reader, folder / "weights")
        (folder / "weights").write_bytes(CONTENT[::-1])
        os.utime(folder / "weights", ns=(0, 0))

    manifests.verify_contents(entries.get_or_build("weights", KEY, copy_and_change))


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"files": 1}',
        '{"files": [{"path": "a"}]}',
        '{"files": [], "about": 1}',
        "[" * 100_000,
    ],
)
def test_unusable_manifest_is_a_broken_entry(entry: Path, content: str) -> None:
    (entry / store.MANIFEST).write_text(content)

    with pytest.raises(BrokenEntry, match="no readable manifest"):
        manifests.verify(entry)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder whose files are older than the resolution of a file system's times."""
    folder = tmp_path / "model"
    folder.mkdir()
    _build(folder)
    return folder


def test_large_file_of_a_user_is_read_once(
    folder: Path, hashed: ReadFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_TIME_RESOLUTION_S", 0.0)  # as if the file were older
    first = digests.of_path(folder)

    assert digests.of_path(folder) == first
    assert hashed() == ["config.json", "config.json", "weights"]


def test_fresh_file_of_a_user_is_read_again(folder: Path, hashed: ReadFiles) -> None:
    """It may change once more within the resolution of its times."""
    assert digests.of_path(folder) == digests.of_path(folder)

    assert hashed() == ["config.json", "config.json", "weights", "weights"]


def test_hidden_change_of_a_users_file_is_seen(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_TIME_RESOLUTION_S", 0.0)
    before = digests.of_path(folder)

    _flip_byte(folder / "weights")

    assert digests.of_path(folder) != before


@pytest.mark.parametrize("content", ["", "[]", '{"files": []}', '{"files": {"weights": 1}}'])
def test_damaged_digests_are_ignored(
    content: str, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_TIME_RESOLUTION_S", 0.0)
    before = digests.of_path(folder)
    [kept] = (home / "digests").iterdir()

    kept.write_text(content)

    assert digests.of_path(folder) == before
