"""The content-addressed store, on a real file system."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slmflow.errors import UserError
from slmflow.paths import PROJECT
from slmflow.pipeline import digests, entries, manifests, store

KEY = "k" * 64


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _write(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "a.bin").write_bytes(b"a" * 1000)
    (folder / "sub" / "b.txt").write_text("b")


def _fail(folder: Path) -> None:
    (folder / "half.bin").write_bytes(b"x")
    raise UserError("failed")


def _fail_if_called(folder: Path) -> None:
    raise AssertionError("built although the entry exists")


def test_entry_is_built_once_with_a_manifest() -> None:
    entry = entries.get_or_build("onnx", KEY, _write)

    assert entries.get_or_build("onnx", KEY, _fail_if_called) == entry
    assert manifests.checksums(entry) == {
        "a.bin": digests.sha256(entry / "a.bin"),
        "sub/b.txt": digests.sha256(entry / "sub/b.txt"),
    }


def test_failed_build_leaves_nothing(home: Path) -> None:
    with pytest.raises(UserError, match="failed"):
        entries.get_or_build("onnx", KEY, _fail)

    assert not (home / "onnx").exists()
    assert list((home / "building").iterdir()) == []


def test_abandoned_builds_are_removed(home: Path) -> None:
    for name in (f"onnx-{KEY}", f"weights-{KEY}"):
        _write_partial(home / "building" / name)

    with store.lock(f"weights-{KEY}"):  # as another process that builds
        entries.remove_abandoned_builds()

    assert [left.name for left in (home / "building").iterdir()] == [f"weights-{KEY}"]


def test_unfinished_work_is_kept_until_it_is_finished(home: Path) -> None:
    with pytest.raises(KeyboardInterrupt), entries.unfinished("calibration", KEY) as folder:
        _write_partial(folder)
        raise KeyboardInterrupt
    with entries.unfinished("calibration", "o" * 64) as other:
        assert not other.exists()  # another key does not get it

    with entries.unfinished("calibration", KEY) as folder:
        assert (folder / "half.bin").exists()

    assert not folder.exists()
    assert not (home / "unfinished").exists()


def test_unfinished_work_that_stays_is_removed(home: Path) -> None:
    names = ("calibration-old", "calibration-new")
    for name, days in zip(names, (8, 6), strict=True):
        folder = home / "unfinished" / name
        _write_partial(folder)
        changed = time.time() - days * 24 * 3600
        os.utime(folder, (changed, changed))

    entries.remove_abandoned_builds()

    assert [left.name for left in (home / "unfinished").iterdir()] == ["calibration-new"]


def test_abandoned_files_get_into_no_entry(home: Path) -> None:
    _write_partial(home / "building" / f"onnx-{KEY}")

    entry = entries.get_or_build("onnx", KEY, _write)

    assert set(manifests.checksums(entry)) == {"a.bin", "sub/b.txt"}
    assert list((home / "building").iterdir()) == []


def _write_partial(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "half.bin").write_bytes(b"x")


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "add", "manifest"])
def test_damaged_entry_is_built_again(damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    entry = entries.get_or_build("onnx", KEY, _write)
    {
        "flip": lambda: (entry / "a.bin").write_bytes(b"a" * 999 + b"b"),
        "truncate": lambda: (entry / "a.bin").write_bytes(b"a"),
        "remove": lambda: (entry / "sub" / "b.txt").unlink(),
        "add": lambda: (entry / "c.txt").write_text("c"),
        "manifest": lambda: (entry / store.MANIFEST).write_text("{"),
    }[damage]()

    with pytest.raises(manifests.BrokenEntry):
        manifests.verify(entry)
    entries.get_or_build("onnx", KEY, _write)

    manifests.verify(entry)
    assert "building it again" in "".join(capsys.readouterr().err.split("\n"))


def _build_in_process(_: int) -> str:
    def build(folder: Path) -> None:
        _write(folder)
        (store.home() / "built").open("a").write("x")

    return str(entries.get_or_build("onnx", KEY, build))


def test_concurrent_processes_build_once(home: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        entries = pool.map(_build_in_process, range(2))

    assert len(set(entries)) == 1
    assert (home / "built").read_text() == "x"


def test_unwritable_store_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("SLMFLOW_HOME", str(blocked))

    with pytest.raises(UserError, match="SLMFLOW_HOME"):
        entries.get_or_build("onnx", KEY, _write)


def test_digest_covers_names_and_contents(tmp_path: Path) -> None:
    _write(tmp_path)
    before = digests.of_path(tmp_path)
    (tmp_path / "a.bin").rename(tmp_path / "z.bin")
    renamed = digests.of_path(tmp_path)
    (tmp_path / "z.bin").rename(tmp_path / "a.bin")

    assert renamed != before
    assert digests.of_path(tmp_path) == before


_VOLUME_SCRIPT = """
import sys
from slmflow.pipeline import entries, manifests, store
from tests.pipeline.test_store import KEY, _fail_if_called, _write
from tests.fixtures.volume import act_as_volume
act_as_volume(sys.argv[1])
entry = entries.get_or_build("onnx", KEY, _write)
assert entries.get_or_build("onnx", KEY, _fail_if_called) == entry
(entry / store.MANIFEST).unlink()  # as after an interrupted copy
entries.get_or_build("onnx", KEY, _write)
manifests.verify(entry)
try:
    entry.rename(entry.parent / "other")
except OSError:
    print("refused")
"""


def test_volume_has_entries_only(tmp_path: Path) -> None:
    volume, scratch = tmp_path / "Volumes", tmp_path / "tmp"
    scratch.mkdir()
    environment = {"SLMFLOW_HOME": str(volume), "TMPDIR": str(scratch), "PYTHONPATH": str(PROJECT)}

    done = subprocess.run(
        [sys.executable, "-c", _VOLUME_SCRIPT, str(volume)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )

    assert done.stdout == "refused\n", done.stderr
    assert "building it again" in "".join(done.stderr.split("\n"))
    assert [path.name for path in volume.iterdir()] == ["onnx"]
    assert list((scratch / "slmflow" / "building").iterdir()) == []
    assert (scratch / "slmflow" / "locks").is_dir()
