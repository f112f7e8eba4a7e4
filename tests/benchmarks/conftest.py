"""Run a benchmark in a child process, or call it in this one."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.harness.installation import CURRENT
from slmflow.system.child_processes import environment


@pytest.fixture
def run_benchmark(tmp_path: Path) -> Callable[..., Path]:
    """A function that runs a benchmark and returns its output, which names no local path."""

    def run(name: str, *arguments: object) -> Path:
        output = tmp_path / "out"
        command = CURRENT.command(name, *arguments, "--output", output)
        done = subprocess.run(command, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert all(str(tmp_path) not in page.read_text() for page in output.glob("*.md"))
        return output

    return run


@pytest.fixture
def call_main(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that calls the command-line entry point of a module in this process."""

    def call(module: ModuleType, *arguments: object) -> None:
        monkeypatch.setenv("SLMFLOW_HOME", "set by --work, and restored after the test")
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        module.main()

    return call
