"""A hub on loopback, and processes in a clean environment that talk to it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slmflow.paths import PROJECT
from tests.fixtures.tracking import database
from tests.hub import models
from tests.hub.hub_server import Hub, serving

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(models.whole()) as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The store of the processes."""
    return tmp_path / "store"


@pytest.fixture
def run(tmp_path: Path, home: Path) -> Run:
    """Run `python ARGUMENTS` with nothing in the environment but what the test gives."""
    clean = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PROJECT),
        "HOME": str(tmp_path),
        "SLMFLOW_HOME": str(home),
        "MLFLOW_TRACKING_URI": database(tmp_path),
        "COLUMNS": "10000",  # rich breaks lines at this width
    }

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            env=clean | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
        )

    return run
