"""The store on a full, read-only or removed disk, with real file systems."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slmflow.errors import UserError
from slmflow.paths import PROJECT
from slmflow.pipeline import entries, manifests, store
from tests.fixtures.project import CommandResult, Sandbox

KEY = "k" * 64

# Writes four megabytes, as bytes or as a NumPy array.
BUILD_SCRIPT = """
import sys
import numpy as np
from slmflow.pipeline import entries
from slmflow.errors import UserError

def build(folder):
    data = np.zeros(4_000_000, np.uint8)
    with (folder / "weights").open("wb") as file:
        data.tofile(file) if sys.argv[1] == "numpy" else file.write(data.tobytes())

try:
    entries.get_or_build("onnx", "k", build)
except UserError as fault:
    sys.exit(f"error: {fault}")
"""

Call = Callable[..., CommandResult]


@pytest.fixture
def run_on_small_disk(tmp_path: Path) -> Call:
    """Run Python in a user namespace with the store on a file system of one megabyte.

    before: shell commands to run first, with the store's folder as $1.
    """
    sandbox = Sandbox(tmp_path)
    home = tmp_path / "home"
    home.mkdir()

    def call(*arguments: str, before: str = "true") -> CommandResult:
        mount = f'mount -t tmpfs -o size=1m none "$1" && {before} && shift && exec "$@"'
        inside = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(home)]
        done = subprocess.run(
            [*inside, sys.executable, *arguments],
            env=sandbox.environ(),
            cwd=PROJECT,
            capture_output=True,
            text=True,
        )
        return CommandResult(done.returncode, done.stdout, done.stderr)

    if shutil.which("unshare") is None or call("-c", "").status:
        pytest.skip("this system has no user namespaces")
    return call


@pytest.mark.parametrize("how", ["plain", "numpy"])
def test_full_disk_is_explained(run_on_small_disk: Call, how: str) -> None:
    done = run_on_small_disk("-c", BUILD_SCRIPT, how)

    assert done.status == 1
    assert "cannot be written (" in done.errors
    assert "None" not in done.errors
    assert "set SLMFLOW_HOME to a writable folder with free space" in done.errors
    assert "Traceback" not in done.errors


def test_read_only_store_is_explained(run_on_small_disk: Call) -> None:
    done = run_on_small_disk("-m", "steps.fetch", before='mount -o remount,ro "$1"')

    assert done.status == 1
    assert "cannot be written (Read-only file system)" in done.message


def test_store_removed_during_a_build_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "home"))

    def build(folder: Path) -> None:
        shutil.rmtree(store.home())
        (folder / "a.bin").write_bytes(b"a")

    with pytest.raises(UserError, match="was removed while in use"):
        entries.get_or_build("onnx", KEY, build)

    entry = entries.get_or_build("onnx", KEY, lambda folder: None)
    manifests.verify(entry)
