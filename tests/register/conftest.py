"""A tracking store for a whole file of tests, and a registered model for each of them."""

from collections.abc import Iterator

import mlflow
import pytest

from tests.register.evaluated import Registered


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Point MLflow to a SQLite database in a folder of this file's own, and the store beside it."""
    folder = tmp_path_factory.mktemp("register")
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SLMFLOW_HOME", str(folder / "home"))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        yield
    mlflow.set_tracking_uri(before)


@pytest.fixture
def model(place: None, request: pytest.FixtureRequest) -> Registered:
    """A registered model that no other test knows."""
    return Registered(request.node.name)
