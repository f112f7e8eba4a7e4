"""Models that other versions of slmflow have logged, served by this one."""

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import mlflow
import openai
import pytest

from slmflow.errors import UserError
from slmflow.paths import PROJECT
from slmflow.pipeline.results import GenaiModel
from slmflow.runtime.protocol import PROTOCOL_VERSION
from slmflow.serving.loaded_model import load
from tests.fixtures.bundled_model import Reference
from tests.serving.calls import NUMBERS, QUESTION, call, metric, start_request
from tests.serving.conftest import Server, serving, wait_until

UNVERSIONED = Path(__file__).parent / "data" / "unversioned_runtime.zip"


def log(model_code: Path, runtime: Path, onnx: Path, chat: GenaiModel, experiment: str) -> str:
    """Log the bundled model with another runtime, and return its URI."""
    with mlflow.start_run(experiment_id=experiment):
        info = mlflow.pyfunc.log_model(
            name="genai",
            python_model=str(model_code),
            code_paths=[str(runtime)],
            artifacts={"model": str(onnx)},
            model_config={
                "model_name": "tiny_phi3",
                "interface": "chat",
                "max_new_tokens": 48,
                "temperature": 0.0,
                "top_p": 1.0,
            },
            signature=mlflow.models.get_model_info(chat.model_uri).signature,
            pip_requirements=["mlflow"],
        )
    return info.model_uri


@pytest.fixture(scope="module")
def older_server(
    onnx: Path, chat: GenaiModel, experiment: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A model logged before the serving protocol had a version."""
    folder = tmp_path_factory.mktemp("older")
    zipfile.ZipFile(UNVERSIONED).extractall(folder)
    uri = log(folder / "model.py", folder / "runtime", onnx, chat, experiment)
    with serving(folder / "serve", f"serve.model_uri={uri}") as running:
        yield running


def test_older_model_answers_openai_requests(older_server: Server, reference: Reference) -> None:
    client = older_server.client()
    expected = reference.text(reference.generate(QUESTION, 48))
    whole = client.chat.completions.create(model="tiny_phi3", messages=QUESTION)
    *pieces, usage = client.chat.completions.create(
        model="tiny_phi3",
        messages=QUESTION,
        stream=True,
        stream_options={"include_usage": True},
    )
    assert whole.choices[0].message.content == expected
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == expected
    assert len(pieces) > 3
    assert usage.usage == whole.usage
    text = client.completions.create(model="tiny_phi3", prompt="The capital of", max_tokens=4)
    assert text.usage
    assert text.usage.completion_tokens == 4
    with pytest.raises(openai.BadRequestError, match="temperature=3: must be between 0"):
        client.chat.completions.create(model="tiny_phi3", messages=QUESTION, temperature=3)


def test_older_model_answers_invocations(older_server: Server) -> None:
    before = metric(older_server, "slmflow_completion_tokens_total")
    body = json.dumps({"messages": QUESTION}).encode()
    headers = {"Content-Type": "application/json"}
    status, _, text = call(older_server, "POST", "/invocations", body, **headers)
    assert status == 200
    [response] = json.loads(text)
    assert "Paris" in response["choices"][0]["message"]["content"]
    generated = metric(older_server, "slmflow_completion_tokens_total") - before
    assert generated == response["usage"]["completion_tokens"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/invocations"])
def test_older_model_cancels_abandoned_requests(older_server: Server, path: str) -> None:
    before = metric(older_server, "slmflow_completion_tokens_total")
    connection = start_request(older_server, path, max_tokens=400, response_format=NUMBERS)
    wait_until(lambda: metric(older_server, "slmflow_requests_running") == 1)
    with older_server.paused():
        connection.close()
        wait_until(lambda: metric(older_server, "slmflow_requests_cancelled_total") >= 1)
    wait_until(lambda: metric(older_server, "slmflow_requests_running") == 0)
    assert metric(older_server, "slmflow_completion_tokens_total") - before < 400


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
    uri = log(code, runtime, onnx, chat, experiment)

    with pytest.raises(
        UserError, match=rf"version {newer} of .* supports versions up to {PROTOCOL_VERSION}"
    ):
        load(uri, deliver=lambda _: None)


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
        load(info.model_uri, deliver=lambda _: None)
