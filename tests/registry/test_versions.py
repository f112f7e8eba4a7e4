"""Register logged models in the real registry of a SQLite tracking store."""

from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.errors import UserError
from slmflow.pipeline import registered_models
from slmflow.registry.versions import find_version, register_version
from tests.registry.finished_runs import log_echo_model


@pytest.fixture
def model_uris(tracking: str) -> tuple[str, str]:
    """Two logged models."""
    with mlflow.start_run():
        return str(log_echo_model().model_uri), str(log_echo_model().model_uri)


def test_each_model_is_a_version_and_moves_the_alias(model_uris: tuple[str, str]) -> None:
    one, other = model_uris
    first = register_version("echo", ["candidate"], one, "| a | table |", {"a": "b"})
    second = register_version("echo", ["candidate"], other, "x" * 9000, {})

    client = MlflowClient()
    assert (first, second) == ("1", "2")
    assert client.get_model_version("echo", "1").description == "| a | table |"
    assert client.get_model_version("echo", "1").tags == {"a": "b"}
    assert registered_models.aliases("echo") == {"candidate": "2"}
    current = registered_models.version_by_alias("echo", "candidate")
    assert current is not None
    assert len(current.description) == 5000
    assert registered_models.version_by_alias("echo", "champion") is None
    assert registered_models.version_by_alias("other", "champion") is None


def test_registered_model_is_updated_not_duplicated(
    model_uris: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = model_uris
    tags = {"slmflow_n": "2", "slmflow_bleu": "30"}
    register_version("echo", ["candidate"], one, "before", tags)
    register_version("echo", ["candidate"], other, "", {})
    client = MlflowClient()
    client.set_model_version_tag("echo", "1", "reviewed", "yes")  # a user's own tag
    capsys.readouterr()

    tags = {"slmflow_n": "3", "slmflow_rouge_l": "1"}
    existing = find_version("echo", one, ("slmflow_key_log_genai", "0" * 64))
    again = register_version("echo", ["best"], one, "after", tags, existing)

    assert again == "1"
    assert len(client.search_model_versions("name='echo'")) == 2
    assert registered_models.aliases("echo") == {"candidate": "2", "best": "1"}
    version = client.get_model_version("echo", "1")
    assert version.description == "after"
    assert version.tags == {**tags, "reviewed": "yes"}
    assert "the model is already models:/echo/1" in capsys.readouterr().err
    assert register_version("other", ["candidate"], one, "", {}) == "1"


def test_unusable_registry_is_one_message(
    model_uris: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{tmp_path}/file/registry.db")

    with pytest.raises(UserError, match=r"registry cannot be used: .*MLFLOW_REGISTRY_URI"):
        register_version("echo", ["candidate"], model_uris[0], "", {})
    with pytest.raises(UserError, match="the model registry cannot be used"):
        registered_models.version_by_alias("echo", "candidate")


def test_model_of_another_experiment_is_found_by_its_key(
    model_uris: tuple[str, str], tmp_path: Path
) -> None:
    one, other = model_uris
    key_tag = ("slmflow_key_log_genai", "0" * 64)
    register_version("echo", ["candidate"], one, "", dict([key_tag]))

    found = find_version("echo", other, key_tag)
    assert found is not None
    assert str(found.version) == "1"
    assert find_version("echo", other, (key_tag[0], "1" * 64)) is None

    for file in tmp_path.glob(f"mlruns/*/models/{one.removeprefix('models:/')}/artifacts/MLmodel"):
        file.unlink()
    assert find_version("echo", other, key_tag) is None
