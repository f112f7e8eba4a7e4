"""Two identical commands at once: one works, the other waits and reuses the result."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.project import Sandbox


@pytest.mark.long
def test_concurrent_command_waits_and_reuses(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    sandbox.client.search_runs(["0"])  # creates the database
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "steps.log_genai"],
            env=sandbox.environ(),
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate()[1] for process in processes]

    assert [process.returncode for process in processes] == [0, 0], outputs
    assert len(sandbox.runs("fetch")) == len(sandbox.runs("convert")) == 1
    assert sum("waiting for another process that works on convert" in each for each in outputs) == 1
    assert {run.info.status for run in sandbox.client.search_runs(["0"])} == {"FINISHED"}
