"""Fixtures and collection order of all tests."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.tracking import isolated_tracking

pytest_plugins = [
    "tests.fixtures.bundled_model",
    "tests.fixtures.base_model",
    "tests.fixtures.adapted_model",
    "tests.fixtures.hub",
    "tests.fixtures.thinking_model",
]

# `mlflow run -e test` sets these for its own run, which the tests' runs must not join.
for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_TRACKING_URI"):
    os.environ.pop(name, None)
# MLflow's server would start nine more processes, for jobs that no test needs.
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"


@pytest.hookimpl(trylast=True)  # after pytest groups the tests by fixture
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest file first, so that another worker runs the rest meanwhile."""
    items.sort(key=lambda item: item.path.name != "test_workflow.py")


def pytest_collection_finish() -> None:
    """Exclude imported modules from garbage collection, which else takes a third of a second."""
    gc.freeze()


@pytest.fixture
def tracking(tmp_path: Path) -> Iterator[str]:
    """Point MLflow to a SQLite database in the test's folder, with the store beside it."""
    with isolated_tracking(tmp_path) as uri:
        yield uri
