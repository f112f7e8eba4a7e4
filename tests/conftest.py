"""Fixtures of every test: a tracking server and a store of its own."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.tracking import tracking_in

pytest_plugins = ["tests.fixtures.bundled_model", "tests.fixtures.hub"]

# `mlflow run -e test` hands its own run on; the runs of the tests are no part of it.
for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_TRACKING_URI"):
    os.environ.pop(name, None)


@pytest.hookimpl(trylast=True)  # pytest's own brings the tests of a fixture together
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest file first: the other worker has the rest done meanwhile."""
    items.sort(key=lambda item: item.path.name != "test_workflow.py")


def pytest_collection_finish() -> None:
    """Leave what is imported out of garbage collections, which take a third of a second with it."""
    gc.freeze()


@pytest.fixture
def tracking(tmp_path: Path) -> Iterator[str]:
    """Point MLflow to a SQLite database in the test's own folder, and the store beside it."""
    with tracking_in(tmp_path) as uri:
        yield uri
