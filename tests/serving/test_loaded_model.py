"""The name under which a model answers."""

import json
from typing import Any

import mlflow

from slmflow.flavors.genai_result import GenaiModel
from slmflow.serving.loaded_model import Loaded, load
from tests.fixtures.server.calls import QUESTION


def _invoked(loaded: Loaded) -> Any:
    body = json.dumps({"messages": QUESTION})
    [answer] = json.loads(loaded.invocations(body, "application/json")["body"])
    return answer


def test_a_registered_model_answers_mlflow_under_the_name_it_is_served_as(
    chat: GenaiModel,
) -> None:
    version = mlflow.register_model(chat.model_uri, "capitals").version

    served = load(f"models:/capitals/{version}")

    assert served.chat.name == "capitals"
    assert _invoked(served)["model"] == "capitals"


def test_another_model_keeps_the_name_it_was_logged_with(chat: GenaiModel) -> None:
    loaded = load(chat.model_uri)

    assert loaded.chat.name == "tiny_phi3"
    assert _invoked(loaded)["model"] == "tiny_phi3"
