"""A tracking server and a store of a test's own."""

import functools
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient


@functools.cache
def _empty() -> bytes:
    """What MLflow makes at an address where there is no database; it takes it a second or two."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "mlflow.db")
        MlflowClient(f"sqlite:///{file}").search_experiments()
        return file.read_bytes()


def database(folder: Path) -> str:
    """Lay an empty tracking database into a folder, to be used from there; return its address."""
    file = folder / "mlflow.db"
    file.write_bytes(_empty())
    with closing(sqlite3.connect(file)) as opened, opened:
        place = (str(folder / "mlruns" / "0"),)
        opened.execute("UPDATE experiments SET artifact_location = ?", place)
    return f"sqlite:///{file}"


@contextmanager
def tracking_in(folder: Path) -> Iterator[str]:
    """Point MLflow to a SQLite database in a folder, and the store beside it; yield its address."""
    uri = database(folder)
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SLMFLOW_HOME", str(folder / "home"))
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        yield uri
    mlflow.set_tracking_uri(before)
