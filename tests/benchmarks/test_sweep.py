"""The sweep benchmark, on few questions: the workflow and a sweep of 12 points, run for real."""

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import sweep
from benchmarks.harness import child
from benchmarks.sweep import PLOTS, POINTS, Round
from slmflow.sweeps import points
from slmflow.system.child_processes import environment


def test_it_has_as_many_points_as_it_says() -> None:
    assert len(points.read(sweep.OVER)) == POINTS


def test_medians_are_told() -> None:
    page = sweep.markdown([Round(100, 300, 276), Round(100, 200, 188), Round(100, 250, 238)])

    assert "| 1 | 100 | 300 | 3.00 | 2.0 |" in page
    assert "| median | 100 | 250 | **2.50** | **1.0** |" in page


@pytest.mark.long
def test_both_are_run_and_timed(tmp_path: Path) -> None:
    output = tmp_path / "out"
    line = child.command("sweep", "--rounds", 1, "--limit", 3, "--output", output)

    done = subprocess.run(line, env=environment(), capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    [told] = json.loads((output / "sweep.json").read_text())
    assert 0 < told["work_s"] < told["sweep_s"]
    assert "**" in (output / "sweep.md").read_text()
    assert str(tmp_path) not in (output / "sweep.md").read_text()
    assert all((output / plot).read_bytes().startswith(b"\x89PNG") for plot in PLOTS)
