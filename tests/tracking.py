"""A tracking server and a store of a test's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest


@contextmanager
def tracking_in(folder: Path) -> Iterator[str]:
    """Point MLflow to a SQLite database in a folder, and the store beside it; yield its address."""
    uri = f"sqlite:///{folder}/mlflow.db"
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SLMFLOW_HOME", str(folder / "home"))
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        yield uri
    mlflow.set_tracking_uri(before)
