"""The pyfunc of a thinking model: streams, the prompt interface, and answers to a schema."""

import json
from collections.abc import Callable

import mlflow
import pytest

from slmflow.pipeline.results import GenaiModel
from tests.fixtures.thinking_model import OPENED, QUESTION, Thinking, ThinkingModel

CHAT = {"messages": QUESTION}


@pytest.fixture(scope="module")
def model(thinking_model: Callable[[Thinking], ThinkingModel]) -> ThinkingModel:
    return thinking_model(Thinking(OPENED))


def test_stream_has_reasoning_before_the_answer(model: ThinkingModel, experiment: str) -> None:
    pyfunc = mlflow.pyfunc.load_model(model.log(GenaiModel, experiment).model_uri)
    deltas = [chunk["choices"][0]["delta"] for chunk in pyfunc.predict_stream(CHAT)]
    reasoning = "".join(delta.get("reasoning_content", "") for delta in deltas)
    answer = "".join(delta.get("content", "") for delta in deltas)
    assert (reasoning, answer) == model.answer(QUESTION)
    assert reasoning and answer
    kinds = ["reasoning_content" in delta for delta in deltas]
    assert kinds == sorted(kinds, reverse=True)


def test_prompt_interface_returns_the_answer_only(model: ThinkingModel, experiment: str) -> None:
    logged = model.log(GenaiModel, experiment, "log_genai.interface=prompt")
    pyfunc = mlflow.pyfunc.load_model(logged.model_uri)
    prompt = {"prompt": QUESTION[0]["content"]}
    _, answer = model.answer(QUESTION)
    assert pyfunc.predict(prompt) == [answer]
    assert "".join(pyfunc.predict_stream(prompt)) == answer


def test_answer_to_a_schema_is_no_reasoning(model: ThinkingModel, experiment: str) -> None:
    """The schema constrains the completion from its first token, inside the opened block."""
    pyfunc = mlflow.pyfunc.load_model(model.log(GenaiModel, experiment).model_uri)
    schema = {
        "type": "object",
        "properties": {"a": {"enum": [1]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    format_ = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    [completion] = pyfunc.predict({**CHAT, "response_format": format_})
    message = completion["choices"][0]["message"]
    assert json.loads(message["content"]) == {"a": 1}
    assert "reasoning_content" not in message
