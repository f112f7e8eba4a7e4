"""A tracking store per test file, and a registered model per test."""

from collections.abc import Iterator

import pytest

from tests.fixtures.tracking import isolated_tracking
from tests.registry.finished_runs import RegisteredModel


@pytest.fixture(scope="module")
def module_tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Point MLflow to a SQLite database and a store that the tests of one file share."""
    with isolated_tracking(tmp_path_factory.mktemp("register")):
        yield


@pytest.fixture
def model(module_tracking: None, request: pytest.FixtureRequest) -> RegisteredModel:
    """A registered model that only this test uses."""
    return RegisteredModel(request.node.name)
