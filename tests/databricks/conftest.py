"""A workspace, and a checkout of the project that is submitted to it."""

from collections.abc import Iterator

import pytest

from tests.databricks.submitting import Checkout, create_checkout
from tests.databricks.workspace import Workspace, open_workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with open_workspace(tmp_path_factory.mktemp("workspace")) as opened:
        yield opened


@pytest.fixture(scope="module")
def checkout(workspace: Workspace) -> Checkout:
    return create_checkout(workspace.folder / "checkout", workspace)
