"""Tool calls of the pyfunc: `predict`, `predict_stream`, and MLflow's traces."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.pyfunc import PyFuncModel
from mlflow.types.chat import ChatChoice, ChatChunkChoice

from slmflow.pipeline.results import GenaiModel
from tests.fixtures.thinking_model import QUESTION, ThinkingModel
from tests.fixtures.tool_model import CALLING, TOOLS, expected_call

NAMED = {"type": "function", "function": {"name": "get_capital"}}
FREE = {"messages": QUESTION, "tools": TOOLS}
FORCED = {**FREE, "tool_choice": NAMED}


@pytest.fixture(scope="module")
def model(thinking_model: Callable[[Any], ThinkingModel]) -> ThinkingModel:
    return thinking_model(CALLING)


@pytest.fixture(scope="module")
def logged(model: ThinkingModel, experiment: str) -> GenaiModel:
    logged: GenaiModel = model.log(GenaiModel, experiment)
    return logged


@pytest.fixture(scope="module")
def calling(logged: GenaiModel) -> PyFuncModel:
    return mlflow.pyfunc.load_model(logged.model_uri)


def only_call(completion: dict[str, Any]) -> dict[str, Any]:
    """Return the one call of a completion, which is valid to MLflow too."""
    [choice] = completion["choices"]
    ChatChoice.model_validate(choice)
    assert choice["finish_reason"] == "tool_calls"
    [made] = choice["message"]["tool_calls"]
    assert made["type"] == "function"
    function: dict[str, Any] = made["function"]
    return function


def test_predicted_call_is_that_of_transformers(calling: PyFuncModel, model: ThinkingModel) -> None:
    [completion] = calling.predict(FREE)
    written = model.tokenizer.decode(model.generate(QUESTION, tools=TOOLS))
    assert only_call(completion) == expected_call(written)


def test_rows_of_a_frame_call_tools(calling: PyFuncModel) -> None:
    rows = [FORCED, {**FREE, "parallel_tool_calls": False}, {"messages": QUESTION}]
    forced, free, plain = calling.predict(pd.DataFrame(rows))
    assert json.loads(only_call(forced)["arguments"]).keys() == {"about", "kind"}
    assert only_call(free)["name"] == "get_capital"
    assert "tool_calls" not in plain["choices"][0]["message"]


def test_streamed_call_equals_the_predicted_one(calling: PyFuncModel) -> None:
    chunks = list(calling.predict_stream(FORCED))
    for chunk in chunks:
        ChatChunkChoice.model_validate(chunk["choices"][0])
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    pieces = [piece for delta in deltas for piece in delta.get("tool_calls", [])]
    arguments = "".join(piece["function"]["arguments"] for piece in pieces)
    [completion] = calling.predict(FORCED)
    assert {"name": pieces[0]["function"]["name"], "arguments": arguments} == only_call(completion)
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_results_in_the_history_reach_the_template(
    calling: PyFuncModel, model: ThinkingModel
) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_capital", "arguments": '{"about": "France"}'},
    }
    result = {"role": "tool", "tool_call_id": "call_1", "content": "Paris"}
    turns = [*QUESTION, {"role": "assistant", "tool_calls": [call]}, result]
    [completion] = calling.predict({"messages": turns, "tools": TOOLS})
    function = {"name": "get_capital", "arguments": {"about": "France"}}
    turn = {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}
    prompt = model.prompt([*QUESTION, turn, result], tools=TOOLS)
    assert completion["usage"]["prompt_tokens"] == len(prompt)


def test_nested_parameters_pass_the_signature(calling: PyFuncModel) -> None:
    item = {"type": "object", "properties": {"n": {"enum": [1]}}, "required": ["n"]}
    parameters = {
        "type": "object",
        "properties": {"list": {"type": "array", "items": item, "minItems": 1, "maxItems": 1}},
        "required": ["list"],
    }
    tool = {"type": "function", "function": {"name": "nest", "parameters": parameters}}
    request = {"messages": QUESTION, "tools": [tool], "tool_choice": "required"}
    [completion] = calling.predict({**request, "parallel_tool_calls": False, "max_tokens": 150})
    assert json.loads(only_call(completion)["arguments"]) == {"list": [{"n": 1}]}


def test_answer_has_its_form_though_a_tool_may_be_called(calling: PyFuncModel) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"]}
    format_ = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    [completion] = calling.predict({**FREE, "response_format": format_})
    [choice] = completion["choices"]
    if choice["finish_reason"] == "tool_calls":
        assert json.loads(only_call(completion)["arguments"]).keys() == {"about", "kind"}
    else:
        assert json.loads(choice["message"]["content"]) == {"a": 1}


@pytest.mark.parametrize("level", ["usage", "content"])
def test_traces_have_tools_and_calls(
    logged: GenaiModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    experiment = mlflow.create_experiment(str(tmp_path), (tmp_path / "artifacts").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    monkeypatch.setenv("SLMFLOW_TRACING", level)
    model = mlflow.pyfunc.load_model(logged.model_uri)
    [completion] = model.predict(FORCED)
    model.unwrap_python_model().close()
    [trace] = mlflow.search_traces(locations=[experiment], return_type="list")
    [span] = trace.data.spans
    assert span.attributes["slmflow.finish_reason"] == "tool_calls"
    if level == "content":
        assert span.attributes["mlflow.chat.tools"] == TOOLS
        assert span.outputs["tool_calls"] == completion["choices"][0]["message"]["tool_calls"]
    else:
        assert "mlflow.chat.tools" not in span.attributes
        assert span.outputs is None
