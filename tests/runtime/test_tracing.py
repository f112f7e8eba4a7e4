"""Traces of `predict` and `predict_stream`, off by default."""

import json
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Trace
from mlflow.exceptions import MlflowException

from slmflow.pipeline.results import GenaiModel

FRANCE = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}


@pytest.fixture
def traces(chat: GenaiModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that calls `predict` and `predict_stream` and returns their traces."""
    experiment = mlflow.create_experiment(str(tmp_path), (tmp_path / "artifacts").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)

    def call() -> list[Trace]:
        model = mlflow.pyfunc.load_model(chat.model_uri)
        model.predict(FRANCE)
        list(model.predict_stream(FRANCE))
        model.unwrap_python_model().close()
        return mlflow.search_traces(locations=[experiment], return_type="list")

    return call


def test_tracing_is_off_by_default(traces: Any) -> None:
    assert traces() == []


@pytest.mark.parametrize("level", ["usage", "content"])
def test_requests_are_traced(traces: Any, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMFLOW_TRACING", level)
    traced = traces()
    assert {trace.data.spans[0].name for trace in traced} == {"predict", "predict_stream"}
    for trace in traced:
        [span] = trace.data.spans
        assert trace.info.token_usage["output_tokens"] > 1
        assert span.attributes["slmflow.time_to_first_token_ms"] > 0
        text = json.dumps(trace.to_dict())
        assert ("France?" in text) == ("Paris" in text) == (level == "content")


def test_unknown_level_is_rejected(chat: GenaiModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMFLOW_TRACING", "all")
    with pytest.raises(
        MlflowException, match="SLMFLOW_TRACING='all': use one of off, usage, content"
    ):
        mlflow.pyfunc.load_model(chat.model_uri)
