"""A metric whose value is the id of the process that evaluated a point."""

import json
import os
from pathlib import Path

import mlflow

from slmflow.paths import PROJECT
from tests.fixtures.project import Sandbox

METRIC = "evaluation.metrics=[where:pid]"

_SOURCE = """
import os


def pid(answer: str, expected: str) -> float:
    return os.getpid()
"""


def sandbox(folder: Path, tracking_uri: str, **environment: str) -> Sandbox:
    """Return a sandbox whose steps can import the metric."""
    (folder / "where.py").write_text(_SOURCE)
    importable = {"PYTHONPATH": f"{PROJECT}:{folder}", "MLFLOW_TRACKING_URI": tracking_uri}
    return Sandbox(folder, {**importable, **environment})


def check_processes(run_id: str, tracking_uri: str) -> list[dict[str, object]]:
    """Check that two processes evaluated the points, neither of them this one.

    Returns the rows of the sweep's `comparison.json`, by column.
    """
    file = mlflow.artifacts.download_artifacts(
        run_id=run_id, artifact_path="comparison.json", tracking_uri=tracking_uri
    )
    table = json.loads(Path(file).read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    pids = {row["pid"] for row in rows}
    assert len(pids) == 2
    assert os.getpid() not in pids
    return rows
