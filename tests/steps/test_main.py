"""Which steps `main` asks for, after finished runs of all steps."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from slmflow.pipeline import runs
from slmflow.pipeline.results import (
    Evaluation,
    GenaiModel,
    Measurements,
    ModelVersion,
    OnnxModel,
    Result,
    TransformersModel,
    Weights,
)
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run
from steps.main import main
from tests.registry.finished_runs import RegisteredModel, finish_evaluation, newest_run
from tests.steps.conftest import ReadErrors

LAST = [Evaluation, ModelVersion]
LOGGED = [TransformersModel, GenaiModel]


@pytest.fixture
def finished(module_tracking: None) -> tuple[str, ...]:
    """Arguments that reuse a finished run of every step."""
    model = RegisteredModel("reused")
    arguments, _ = finish_evaluation()
    assert model.register(*arguments) == 0
    return *arguments, f"registry.name={model.name}"


def test_empty_store_reuses_all_results(
    finished: tuple[str, ...],
    printed: ReadErrors,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As that of a teammate, or of a CI runner, with the same tracking server."""
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "home"))
    before = len(MlflowClient().search_runs(["0"]))
    printed()

    assert run("main", main, finished) == 0

    messages = printed()
    assert len(MlflowClient().search_runs(["0"])) == before + 1
    reused = newest_run("main").data.tags[runs.REUSED_FROM].split(", ")
    assert [each.partition(":")[0] for each in reused] == [
        *("log_transformers", "log_genai", "measure", "evaluate", "register")
    ]
    assert "warning" not in messages
    for step in ("fetch", "convert"):
        assert (
            f"{step} not needed (run {newest_run(step).info.run_id}; not in this store)" in messages
        )
    assert not (tmp_path / "home" / "weights").exists()


def test_own_store_reuses_all_results(finished: tuple[str, ...], printed: ReadErrors) -> None:
    printed()

    assert run("main", main, finished) == 0

    reused = newest_run("main").data.tags[runs.REUSED_FROM].split(", ")
    assert [each.partition(":")[0] for each in reused] == [
        *("fetch", "convert", "log_transformers", "log_genai"),
        *("measure", "evaluate", "register"),
    ]
    assert "not needed" not in printed()


@pytest.mark.parametrize(
    ("override", "required"),
    [
        ("registry.gate.exact_match.min=0.5", LAST),
        ("evaluation.margin=0.02", [Measurements, *LAST]),
        ("evaluation.seed=1", [*LOGGED, Measurements, *LAST]),
        ("log_genai.interface=prompt", [Weights, OnnxModel, *LOGGED, Measurements, *LAST]),
        ("target=cpu_int8", [Weights, OnnxModel, *LOGGED, Measurements, *LAST]),
    ],
)
def test_only_inputs_of_steps_that_run_are_required(
    finished: tuple[str, ...], override: str, required: list[type[Result]]
) -> None:
    """Of a step whose result is reused, nothing before it is."""
    seen: list[type[Result]] = []

    assert run("main", lambda step: seen.extend(_required(step)), [*finished, override]) == 0

    assert seen == required


def _required(step: Step) -> list[type[Result]]:
    return step.required(Evaluation, ModelVersion)
