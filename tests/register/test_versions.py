"""Registering a logged model with the real registry of a SQLite tracking store."""

from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from steps.common.errors import UserError
from steps.register import versions
from tests.register.evaluated import log_echo


@pytest.fixture
def model_uri(tracking: str) -> str:
    with mlflow.start_run():
        return str(log_echo().model_uri)


def test_each_registration_is_a_version_and_moves_the_alias(model_uri: str) -> None:
    first = versions.add("echo", "candidate", model_uri, "| a | table |", {"a": "b"})
    second = versions.add("echo", "candidate", model_uri, "x" * 9000, {})

    client = MlflowClient()
    assert (first, second) == ("1", "2")
    assert client.get_model_version("echo", "1").description == "| a | table |"
    assert client.get_model_version("echo", "1").tags == {"a": "b"}
    assert versions.aliases("echo") == {"candidate": "2"}
    current = versions.under("echo", "candidate")
    assert current is not None
    assert len(current.description) == 5000
    assert versions.under("echo", "champion") is None
    assert versions.under("other", "champion") is None


def test_a_registry_that_cannot_be_used_is_one_message(
    model_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{tmp_path}/file/registry.db")

    with pytest.raises(UserError, match=r"registry cannot be used: .*MLFLOW_REGISTRY_URI"):
        versions.add("echo", "candidate", model_uri, "", {})
    with pytest.raises(UserError, match="the model registry cannot be used"):
        versions.under("echo", "candidate")
