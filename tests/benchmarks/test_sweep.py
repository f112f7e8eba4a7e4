"""The sweep benchmark with few rows: the workflow and a real sweep of 12 points."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import sweep
from benchmarks.sweep import PLOTS, POINTS, Round
from slmflow.sweeps import points


def test_overrides_make_declared_number_of_points() -> None:
    assert len(points.grid(sweep.OVERRIDES)) == POINTS


def test_page_has_medians() -> None:
    page = sweep.markdown([Round(100, 300, 276), Round(100, 200, 188), Round(100, 250, 238)])

    assert "| 1 | 100 | 300 | 3.00 | 2.0 |" in page
    assert "| median | 100 | 250 | **2.50** | **1.0** |" in page


@pytest.mark.long
def test_workflow_and_sweep_are_timed(run_benchmark: Callable[..., Path]) -> None:
    output = run_benchmark("sweep", "--rounds", 1, "--limit", 3)

    [measured] = json.loads((output / "sweep.json").read_text())
    assert 0 < measured["child_runs_s"] < measured["sweep_s"]
    assert "**" in (output / "sweep.md").read_text()
    assert all((output / plot).read_bytes().startswith(b"\x89PNG") for plot in PLOTS)
