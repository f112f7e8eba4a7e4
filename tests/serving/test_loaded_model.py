"""Loading a model to serve: its name, and models that are rejected."""

import json
import queue
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from slmflow.errors import UserError
from slmflow.paths import PROJECT
from slmflow.pipeline.results import GenaiModel
from slmflow.runtime.completions import ResponseShape
from slmflow.runtime.protocol import PROTOCOL_VERSION, Event, is_final
from slmflow.serving.loaded_model import LoadedModel, load
from slmflow.serving.openai_responses import ResponseFormat
from tests.fixtures.thinking_model import Thinking, ThinkingModel
from tests.serving.calls import QUESTION
from tests.serving.conftest import log_with_runtime

DATA = Path(__file__).parent / "data"


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


def test_memory_for_earlier_requests_is_the_servers(chat: GenaiModel) -> None:
    model = load(chat.model_uri, lambda _: None, cache_mb=7)

    assert model.pyfunc.unwrap_python_model()._engine.cache.max_bytes == 7 * 2**20


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


def responses(model_uri: str, *bodies: dict[str, Any]) -> list[list[Event]]:
    """Return all events of each chat request, sent one after another."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    session, received = load(model_uri, events.put).session, []
    for number, body in enumerate(bodies):
        session.submit({"id": number, "type": "chat", "body": {"messages": QUESTION, **body}})
        received.append([events.get()])
        while not is_final(received[-1][-1]):
            received[-1].append(events.get())
    return received


def test_model_logged_before_reasoning_was_split_answers(
    onnx: Path, chat: GenaiModel, experiment: str, tmp_path: Path
) -> None:
    zipfile.ZipFile(DATA / "protocol_1_runtime.zip").extractall(tmp_path)
    code = tmp_path / "flavors" / "genai_model.py"
    uri = log_with_runtime(code, tmp_path / "runtime", onnx, chat, experiment)

    answered, rejected = responses(uri, {}, {"chat_template_kwargs": {}})

    format_ = ResponseFormat(ResponseShape("older"))
    *_, finished = answered
    message = json.loads(bytes(format_.whole(finished).body))["choices"][0]["message"]
    pieces = [format_.piece(event) for event in answered if event["type"] == "piece"]
    deltas = [json.loads(piece.removeprefix("data: "))["choices"][0]["delta"] for piece in pieces]
    assert message == {"role": "assistant", "content": finished["text"], "refusal": None}
    assert "".join(delta["content"] for delta in deltas) == finished["text"] != ""
    assert rejected[-1]["type"] == "rejected"
    assert "chat_template_kwargs is not an option" in rejected[-1]["message"]


def test_older_server_understands_events_with_reasoning(
    thinking_model: Callable[[Thinking], ThinkingModel], experiment: str
) -> None:
    """It knows three types of events and the text of a piece; it ignores the reasoning."""
    logged = thinking_model(Thinking()).log(GenaiModel, experiment)

    [events] = responses(logged.model_uri, {})

    pieces, finished = [each for each in events if each["type"] == "piece"], events[-1]
    assert {each["type"] for each in events} == {"started", "piece", "finished"}
    assert "".join(each["text"] for each in pieces) == finished["text"] != ""
    reasoning = "".join(each.get("reasoning", "") for each in pieces)
    assert reasoning == finished["reasoning"] != ""


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
