"""A tracking store for a whole file of tests, and a registered model for each of them."""

from collections.abc import Iterator

import pytest

from tests.fixtures.tracking import tracking_in
from tests.registry.evaluated import Registered


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Point MLflow to a SQLite database in a folder of this file's own, and the store beside it."""
    with tracking_in(tmp_path_factory.mktemp("register")):
        yield


@pytest.fixture
def model(place: None, request: pytest.FixtureRequest) -> Registered:
    """A registered model that no other test knows."""
    return Registered(request.node.name)
