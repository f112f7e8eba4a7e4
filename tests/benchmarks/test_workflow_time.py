"""The benchmark of the workflow's time: its page, and a real round of this version alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.harness.installation import CURRENT
from benchmarks.workflow_time import Duration, Report


def test_page_has_medians_and_ratios() -> None:
    def rounds(*firsts: float) -> list[dict[str, Duration]]:
        return [
            {"first": Duration(s, 2 * s), "again": Duration(10, 9), "sweep": Duration(3 * s, 90)}
            for s in firsts
        ]

    page = Report(rounds(100, 120, 500), rounds(60, 80, 10), "local").markdown()

    assert "| first run, s | 120.0 | 60.0 | 0.50 |" in page
    assert "| first run, s of CPU | 240.0 | 120.0 | 0.50 |" in page
    assert "| second run, which reuses all, s | 10.0 | 10.0 | 1.00 |" in page
    assert "| sweep beside the first run | 3.00 | 3.00 |  |" in page


@pytest.mark.long
def test_both_versions_are_timed(run_benchmark: Callable[..., Path]) -> None:
    before = ("--before", CURRENT.project, "--before-python", CURRENT.python)
    output = run_benchmark("workflow_time", *before, "--rounds", 1, "--limit", 3)

    measured = json.loads((output / "workflow_time.json").read_text())
    for version in ("before", "after"):
        [round_] = measured[version]
        assert 0 < round_["again"]["wall_s"] < round_["first"]["wall_s"]
        assert 0 < round_["again"]["cpu_s"] < round_["first"]["cpu_s"] < round_["sweep"]["cpu_s"]
