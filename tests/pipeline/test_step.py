"""How a step finds the results of others, with a real tracking store."""

import time

import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.pipeline import runs
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run
from tests.pipeline.value_result import Value, last_run

pytestmark = pytest.mark.usefixtures("tracking")


def test_finished_run_with_the_same_key_is_reused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("fetch", lambda _: Value(7), [])
    first = last_run().info.run_id
    results = []

    def work(running: Step) -> None:
        results.append(running.ensure(Value))

    assert run("convert", work, []) == 0
    assert results == [Value(7)]
    assert last_run().data.tags[runs.REUSED_FROM] == f"fetch:{first}"
    assert "reused" in capsys.readouterr().err


def test_result_is_reused_after_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that starts a year before the run of the result it reuses."""
    run("fetch", lambda _: Value(7), [])
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 365 * 86400)

    def work(running: Step) -> None:
        assert running.ensure(Value) == Value(7)

    assert run("convert", work, []) == 0
    convert, fetch = sorted(MlflowClient().search_runs(["0"]), key=lambda run: run.info.start_time)
    assert convert.data.tags[runs.STEP] == "convert"
    assert convert.info.status == fetch.info.status == "FINISHED"


def test_step_below_a_notebooks_run_is_not_nested() -> None:
    nested = []

    def work(running: Step) -> None:
        nested.append(running.is_nested)

    for name in ("notebook", "step"):
        with mlflow.start_run(run_name=name):
            if name == "step":
                mlflow.set_tag(runs.STEP, "main")
            run("fetch", work, [], new_run={"nested": True})

    assert nested == [False, True]
