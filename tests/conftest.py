"""Fixtures of every test: a tracking server and a store of its own."""

import os
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

# `mlflow run -e test` hands its own run on; the runs of the tests are no part of it.
for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_TRACKING_URI"):
    os.environ.pop(name, None)


@pytest.fixture
def tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Point MLflow to a SQLite database in the test's own folder, and the store beside it."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    before = mlflow.get_tracking_uri()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    yield uri
    mlflow.set_tracking_uri(before)
