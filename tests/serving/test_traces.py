"""From a real server's traces to evaluation rows and drift."""

from pathlib import Path

import mlflow
import openai
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from slmflow.config.schema.evaluation import Columns
from slmflow.datasets import traced_rows
from slmflow.measurement.records import Answer
from slmflow.pipeline import served_traces
from slmflow.pipeline.results import GenaiModel
from slmflow.pipeline.step_runner import run
from steps.drift import drift
from steps.evaluate import evaluate
from tests.fixtures.tracking import read_table
from tests.monitoring import versions
from tests.serving.conftest import serving

COUNTRIES = ("France", "Japan", "Peru", "Italy", "Spain", "Kenya")


@pytest.mark.long
def test_served_requests_are_evaluated_and_compared(
    chat: GenaiModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [Answer("The capital is Paris.", 12, 11)] * len(COUNTRIES)
    uri = versions.register("traced", chat.model_uri, answers, [10.0] * len(COUNTRIES))
    experiment = mlflow.create_experiment(str(tmp_path), (tmp_path / "artifacts").as_uri())
    arguments = ("serve.model_uri=models:/traced@candidate", "serve.tracing=content")
    served: dict[str, str] = {}
    usage = []
    with serving(tmp_path / "serve", *arguments, MLFLOW_EXPERIMENT_ID=experiment) as server:
        client = server.client()
        for country in COUNTRIES:
            question = f"What is the capital of {country}?"
            completion = client.chat.completions.create(
                model="traced", messages=[{"role": "user", "content": question}]
            )
            served[question] = completion.choices[0].message.content or ""
            assert completion.usage is not None
            usage.append(completion.usage.prompt_tokens)
        with pytest.raises(openai.BadRequestError):
            long = "word " * 20_000
            client.chat.completions.create(
                model="traced", messages=[{"role": "user", "content": long}]
            )

    requests = served_traces.read("drift", str(tmp_path), 100, None, chat.model_id)
    assert len(requests) == len(COUNTRIES) + 1
    assert [request.is_rejected for request in requests if request.is_error] == [True]
    assert {request.model_uri for request in requests} == {uri}
    assert sorted(r.prompt_tokens for r in requests if r.prompt_tokens) == sorted(usage)
    made = traced_rows.make_rows(requests, Columns())
    assert {fields["messages"][-1]["content"]: fields["answer"] for fields in made} == served

    own = [f"drift.experiment={tmp_path}", "drift.model_uri=models:/traced@candidate"]
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "home"))
    assert run("drift", drift, [*own, "drift.least=6"]) == 0
    metrics = _newest("drift").data.metrics
    assert metrics["drift.error_share"] == 0
    assert metrics["drift.rejected_share"] == pytest.approx(1 / 7)
    strict = [*own, "drift.least=6", "drift.limits.rejected_share.max_rise=0.1"]
    assert run("drift", drift, strict) == 1
    assert "rejected_share" in _newest("drift").data.tags["slmflow.error"]
    assert "prompt_tokens" not in _newest("drift").data.tags["slmflow.error"]

    rows = ["evaluation=traces", f"evaluation.traces.experiment={tmp_path}"]
    alone = [*rows, f"evaluation.model_uri={uri}", "measurement.timed_rows=0"]
    assert run("evaluate", evaluate, alone, traced_rows.load_config) == 0
    [table] = read_table(_newest("evaluate").info.run_id)
    assert (table["n"], table["exact_match"]) == (len(COUNTRIES), 1)  # as it was served


def _newest(step: str) -> Run:
    [newest] = MlflowClient().search_runs(
        ["0"], f"tags.`slmflow.step` = '{step}'", order_by=["start_time DESC"], max_results=1
    )
    return newest
