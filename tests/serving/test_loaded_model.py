"""Loading a model to serve: its name."""

import json
from typing import Any

import mlflow

from slmflow.pipeline.results import GenaiModel
from slmflow.serving.loaded_model import LoadedModel, load
from tests.serving.calls import QUESTION


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
