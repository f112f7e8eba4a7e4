"""Two identical calls at once: one works, the other waits and reuses."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.project import Workplace


@pytest.mark.long
def test_one_converts_and_the_other_waits(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    place.client.search_runs(["0"])  # the database is there
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "steps.log_genai"],
            env=place.environ(),
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate()[1] for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert len(place.runs("fetch")) == len(place.runs("convert")) == 1
    assert sum("waiting for another process that makes convert" in each for each in said) == 1
    assert {run.info.status for run in place.client.search_runs(["0"])} == {"FINISHED"}
