"""What `predict` and `predict_stream` write to MLflow of each request: nothing, unless told to."""

import json
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Trace
from mlflow.exceptions import MlflowException

from slmflow.flavors.genai_result import GenaiModel

FRANCE = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}


@pytest.fixture
def traces_of(chat: GenaiModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ask the model for an answer and a stream, and return what was traced of them."""
    experiment = mlflow.create_experiment(str(tmp_path), (tmp_path / "artifacts").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)

    def asked() -> list[Trace]:
        model = mlflow.pyfunc.load_model(chat.model_uri)
        model.predict(FRANCE)
        list(model.predict_stream(FRANCE))
        model.unwrap_python_model().close()
        return mlflow.search_traces(locations=[experiment], return_type="list")

    return asked


def test_nothing_is_traced_by_default(traces_of: Any) -> None:
    assert traces_of() == []


@pytest.mark.parametrize("level", ["usage", "content"])
def test_each_request_is_traced(
    traces_of: Any, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLMFLOW_TRACING", level)
    traces = traces_of()
    assert {trace.data.spans[0].name for trace in traces} == {"predict", "predict_stream"}
    for trace in traces:
        [span] = trace.data.spans
        assert trace.info.token_usage["output_tokens"] > 1
        assert span.attributes["slmflow.time_to_first_token_ms"] > 0
        held = json.dumps(trace.to_dict())
        assert ("France?" in held) == ("Paris" in held) == (level == "content")


def test_an_unknown_level_is_refused(chat: GenaiModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMFLOW_TRACING", "all")
    with pytest.raises(MlflowException, match="SLMFLOW_TRACING='all': give off, usage, content"):
        mlflow.pyfunc.load_model(chat.model_uri)
