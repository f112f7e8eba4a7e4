"""The kill storm from end to end on one step; on every step it takes half an hour."""

import json
import sys
from pathlib import Path

import mlflow
import pytest

from benchmarks import kill_storm


@pytest.mark.long
def test_killed_fetch_leaves_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("SLMFLOW_HOME", "restored after the test")
    arguments = ("--kills", "1", "--steps", "fetch", "--seed", "7", "--output", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["kill_storm", *arguments])
    try:
        kill_storm.main()
    finally:
        mlflow.set_tracking_uri(before)

    [kill] = json.loads((tmp_path / "killed.json").read_text())["kills"]
    assert (kill["step"], kill["faults"]) == ("fetch", [])
    assert "| `fetch` | 1 |" in (tmp_path / "killed.md").read_text()
