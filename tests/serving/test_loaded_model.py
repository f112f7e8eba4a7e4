"""Loading a model to serve: its name, and models that are rejected."""

import json
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest

from slmflow.errors import UserError
from slmflow.paths import PROJECT
from slmflow.pipeline.results import GenaiModel
from slmflow.runtime.protocol import PROTOCOL_VERSION
from slmflow.serving.loaded_model import LoadedModel, load
from tests.serving.calls import QUESTION
from tests.serving.conftest import log_with_runtime


def loaded(model_uri: str) -> LoadedModel:
    return load(model_uri, deliver=lambda _: None)


def invocation(model: LoadedModel) -> Any:
    body = json.dumps({"messages": QUESTION})
    [response] = json.loads(model.invoke(body, "application/json")["body"])
    return response


def test_registered_model_has_its_registered_name(chat: GenaiModel) -> None:
    version = mlflow.register_model(chat.model_uri, "capitals").version

    model = loaded(f"models:/capitals/{version}")

    assert model.session.model_name == "capitals"
    assert invocation(model)["model"] == "capitals"


def test_other_model_keeps_its_logged_name(chat: GenaiModel) -> None:
    model = loaded(chat.model_uri)

    assert model.session.model_name == "tiny_phi3"
    assert invocation(model)["model"] == "tiny_phi3"


def test_newer_protocol_is_rejected(
    onnx: Path, chat: GenaiModel, experiment: str, tmp_path: Path
) -> None:
    newer = PROTOCOL_VERSION + 1
    runtime = Path(shutil.copytree(PROJECT / "slmflow" / "runtime", tmp_path / "runtime"))
    protocol = runtime / "protocol.py"
    declared = f"PROTOCOL_VERSION = {PROTOCOL_VERSION}"
    assert declared in protocol.read_text()
    protocol.write_text(protocol.read_text().replace(declared, f"PROTOCOL_VERSION = {newer}"))
    code = tmp_path / "flavors" / "genai_model.py"
    code.parent.mkdir()
    shutil.copy(PROJECT / "slmflow" / "flavors" / code.name, code)
    uri = log_with_runtime(code, runtime, onnx, chat, experiment)

    with pytest.raises(
        UserError, match=rf"version {newer} of .* supports versions up to {PROTOCOL_VERSION}"
    ):
        loaded(uri)


def test_model_of_another_project_is_rejected(tmp_path: Path, experiment: str) -> None:
    code = tmp_path / "other.py"
    code.write_text(
        "import mlflow\n\n\nclass Other(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n"
        "        return model_input\n\n\n"
        "mlflow.models.set_model(Other())\n"
    )
    with mlflow.start_run(experiment_id=experiment):
        info = mlflow.pyfunc.log_model(
            name="other", python_model=str(code), pip_requirements=["mlflow"]
        )

    with pytest.raises(UserError, match="not logged by slmflow, or by a version too old"):
        loaded(info.model_uri)
