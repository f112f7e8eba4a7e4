"""Registering a logged model with the real registry of a SQLite tracking store."""

from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from steps.common.results import Stale
from steps.register.result import ModelVersion
from steps.register.versions import add_version

ECHO = """
import mlflow

class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str], params=None) -> list[str]:
        return model_input

mlflow.models.set_model(Echo())
"""


@pytest.fixture
def model_uri(tracking: str, tmp_path: Path) -> str:
    (tmp_path / "echo.py").write_text(ECHO)
    with mlflow.start_run():
        info = mlflow.pyfunc.log_model(python_model="echo.py", name="echo", pip_requirements=[])
    return str(info.model_uri)


def test_each_registration_is_a_version_and_moves_the_alias(model_uri: str) -> None:
    first = add_version("echo", "candidate", model_uri, "| a | table |")
    second = add_version("echo", "candidate", model_uri, "x" * 9000)

    client = MlflowClient()
    assert (first, second) == ("1", "2")
    assert client.get_model_version("echo", "1").description == "| a | table |"
    assert str(client.get_model_version_by_alias("echo", "candidate").version) == "2"
    ModelVersion("echo", "2", "candidate", "genai", "faster").check()
    with pytest.raises(Stale, match="is version 2 now"):
        ModelVersion("echo", "1", "candidate", "genai", "faster").check()
    with pytest.raises(Stale, match="not there any more"):
        ModelVersion("other", "1", "candidate", "genai", "faster").check()
