"""The store on a disk that is full, cannot be written, or goes away: real file systems."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slmflow.errors import UserError
from slmflow.paths import PROJECT
from slmflow.pipeline import store
from tests.fixtures.project import Done, Workplace

KEY = "k" * 64

# Four megabytes by plain writes, or as NumPy writes an array.
BUILDS = """
import sys
import numpy as np
from steps.common import store
from slmflow.errors import UserError

def build(folder):
    data = np.zeros(4_000_000, np.uint8)
    with (folder / "weights").open("wb") as file:
        data.tofile(file) if sys.argv[1] == "numpy" else file.write(data.tobytes())

try:
    store.get_or_build("onnx", "k", build)
except UserError as fault:
    sys.exit(f"error: {fault}")
"""

Call = Callable[..., Done]


@pytest.fixture
def on_small_disk(tmp_path: Path) -> Call:
    """Call Python with the store on a file system of one megabyte, which a namespace of users has.

    further: shell commands that come before, with the store's folder as $1.
    """
    place = Workplace(tmp_path)
    home = tmp_path / "home"
    home.mkdir()

    def call(*arguments: str, further: str = "true") -> Done:
        mount = f'mount -t tmpfs -o size=1m none "$1" && {further} && shift && exec "$@"'
        inside = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(home)]
        done = subprocess.run(
            [*inside, sys.executable, *arguments],
            env=place.environ(),
            cwd=PROJECT,
            capture_output=True,
            text=True,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    if shutil.which("unshare") is None or call("-c", "").status:
        pytest.skip("this system lets its users mount nothing")
    return call


@pytest.mark.parametrize("how", ["plain", "numpy"])
def test_a_disk_that_is_full(on_small_disk: Call, how: str) -> None:
    done = on_small_disk("-c", BUILDS, how)

    assert done.status == 1
    assert "cannot be written (" in done.errors
    assert "set SLMFLOW_HOME to a folder with room" in done.errors
    assert "Traceback" not in done.errors


def test_weights_for_which_there_is_no_room(on_small_disk: Call) -> None:
    done = on_small_disk("-m", "steps.fetch")

    assert done.status == 1
    [message] = done.messages
    assert "7.5 MB, but the store has only 1.0 MB of free space: set SLMFLOW_HOME" in message
    assert "None" not in message


def test_a_store_that_is_read_only(on_small_disk: Call) -> None:
    done = on_small_disk("-m", "steps.fetch", further='mount -o remount,ro "$1"')

    assert done.status == 1
    [message] = done.messages
    assert "cannot be written (Read-only file system)" in message


def test_a_store_that_is_removed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "home"))

    def build(folder: Path) -> None:
        shutil.rmtree(store.home())
        (folder / "a.bin").write_bytes(b"a")

    with pytest.raises(UserError, match="was removed while it was written"):
        store.get_or_build("onnx", KEY, build)

    entry = store.get_or_build("onnx", KEY, lambda folder: None)
    store.verify(entry)
