"""A model in Unity Catalog as the source of weights, read by the real Databricks client."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.checkpoints.registry_model import RegistryModel
from slmflow.config import compose as configs
from slmflow.console.library_output import silence
from slmflow.paths import PROJECT
from slmflow.pipeline import model_uris
from tests.databricks.workspace import USER_TOKEN, Workspace

NAME = "main.ml.tuned"
BUNDLED = PROJECT / "bundled" / "tiny_phi3"

pytestmark = pytest.mark.long  # starts a tracking server


@pytest.fixture
def version(workspace: Workspace, tmp_path: Path) -> Iterator[str]:
    """Version 1 of a model in Unity Catalog, with the alias `prod`."""
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setenv("DATABRICKS_HOST", workspace.host)
        patch.setenv("DATABRICKS_TOKEN", USER_TOKEN)
        patch.setenv("HF_HUB_OFFLINE", "1")
        mlflow.set_tracking_uri("databricks")
        mlflow.set_registry_uri("databricks-uc")
        mlflow.set_experiment("/Users/me/tuning")
        with mlflow.start_run(), silence():
            mlflow.transformers.log_model(
                str(BUNDLED),
                name="tuned",
                task="llm/v1/chat",
                torch_dtype="torch.float32",
                pip_requirements=["mlflow"],
                registered_model_name=NAME,
            )
        MlflowClient().set_registered_model_alias(NAME, "prod", "1")
        yield f"models:/{NAME}/1"
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


def test_model_of_unity_catalog_is_read(version: str, tmp_path: Path) -> None:
    assert model_uris.pin("model.uri", f"models:/{NAME}@prod") == version
    assert configs.load(["model=mlflow", f"model.uri={version}"]).model.name == "tuned"
    target = tmp_path / "checkpoint"
    target.mkdir()

    RegistryModel.read(version).download(target)

    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (target / name).read_bytes() == (BUNDLED / name).read_bytes()
