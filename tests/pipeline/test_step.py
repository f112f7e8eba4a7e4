"""A step's exit status, its message and what its MLflow run tells, on a real tracking store."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import mlflow
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from slmflow.errors import UserError
from slmflow.pipeline import runs, step
from slmflow.pipeline.failures import INTERRUPTED
from slmflow.pipeline.results import Result

pytestmark = pytest.mark.usefixtures("tracking")


@dataclass(frozen=True)
class Made(Result):
    step: ClassVar = "fetch"
    reads: ClassVar = ("model",)

    value: int

    def check(self) -> None:
        pass


def _last_run() -> Run:
    [run] = MlflowClient().search_runs(["0"], max_results=1)
    return run


def _raise(fault: BaseException) -> Callable[[step.Step], Result | None]:
    def work(_: step.Step) -> Result | None:
        raise fault

    return work


def test_secrets_are_in_no_message_and_no_tag(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not where a library's message quotes one, and not where MLflow notes a clone's remote."""
    monkeypatch.setenv("DATABRICKS_TOKEN", "dapiOfNobodyElse")
    monkeypatch.setenv("SLMFLOW_DEBUG", "1")
    remote = {"mlflow.gitRepoURL": "https://ci:wordToPass@example.org/a.git"}

    status = step.run(
        "fetch", _raise(RuntimeError("Bearer dapiOfNobodyElse")), [], new_run={"tags": remote}
    )

    run = _last_run()
    assert status == 1
    assert run.data.tags[runs.ERROR] == "RuntimeError: Bearer [hidden]"
    assert run.data.tags["mlflow.gitRepoURL"] == "https://[hidden]@example.org/a.git"
    said = "".join(capsys.readouterr())
    assert "Traceback" in said
    assert "Bearer [hidden]" in said
    assert "dapiOfNobodyElse" not in said
    assert b"dapiOfNobodyElse" not in Path("mlflow.db").read_bytes()


def test_a_step_logs_its_config_and_its_result() -> None:
    status = step.run("fetch", lambda _: Made(7), ["--generation.temperature", "0.5"])

    run = _last_run()
    assert (status, run.info.status) == (0, "FINISHED")
    assert run.data.params["generation.temperature"] == "0.5"
    assert run.data.params["target.quantization.bits"] == "4"
    assert run.data.tags[runs.STEP] == "fetch"
    assert len(run.data.tags[runs.KEY]) == 64
    assert len(run.data.tags[runs.GIT_COMMIT]) == 40
    assert run.data.tags[runs.GIT_DIRTY] in ("true", "false")
    assert runs.load_result(Made, run.info.run_id) == Made(7)
    config = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/config.yaml")
    assert yaml.safe_load(config)["model"]["path"] == "bundled/tiny_phi3"


@pytest.mark.parametrize(
    ("fault", "status", "state", "said"),
    [
        (UserError("the disk is full"), 1, "FAILED", "the disk is full"),
        (KeyboardInterrupt(), INTERRUPTED, "KILLED", "interrupted"),
        (ZeroDivisionError("a bug"), 1, "FAILED", "ZeroDivisionError: a bug"),
    ],
)
def test_a_fault_is_said_once_and_noted(
    fault: BaseException,
    status: int,
    state: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert step.run("fetch", _raise(fault), []) == status

    run = _last_run()
    assert run.info.status == state
    assert run.data.tags[runs.ERROR] == said
    errors = capsys.readouterr().err
    assert errors.count(f"error: {said}") == 1
    assert ("Traceback" in errors) == isinstance(fault, ZeroDivisionError)


def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLMFLOW_DEBUG", "1")

    step.run("fetch", _raise(UserError("the disk is full")), [])

    assert "Traceback" in capsys.readouterr().err


def test_what_a_nested_step_has_shown_is_not_shown_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    step.run("main", _raise(UserError("step convert failed: why", shown=True)), [])

    assert "why" not in capsys.readouterr().err
    assert _last_run().data.tags[runs.ERROR] == "step convert failed: why"


def test_bad_arguments_make_no_run_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    assert step.run("fetch", lambda _: Made(7), ["target=cpu_int3"]) == 2

    assert MlflowClient().search_runs(["0"]) == []
    assert "cpu_int4" in capsys.readouterr().err


def test_bad_arguments_are_noted_on_the_projects_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = MlflowClient().create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)

    assert step.run("fetch", lambda _: Made(7), ["target=cpu_int3"]) == 2

    assert "target=cpu_int3" in MlflowClient().get_run(run_id).data.tags[runs.ERROR]


def test_params_that_mlflow_logged_already_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    client = MlflowClient()
    run_id = client.create_run("0").info.run_id
    client.log_param(run_id, "generation.temperature", "0.50")
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)

    assert step.run("fetch", lambda _: Made(7), ["--generation.temperature", "0.50"]) == 0

    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["generation.temperature"] == "0.50"


def test_a_finished_run_with_the_same_key_is_reused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step.run("fetch", lambda _: Made(7), [])
    first = _last_run().info.run_id
    found = []

    def work(running: step.Step) -> None:
        found.append(running.ensure(Made))

    assert step.run("convert", work, []) == 0
    assert found == [Made(7)]
    assert _last_run().data.tags[runs.REUSED_FROM] == f"fetch:{first}"
    assert "reused" in capsys.readouterr().err


def test_a_clock_that_is_set_back_hinders_no_reuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """What begins a year before the run that made the result finds it, and ends well."""
    step.run("fetch", lambda _: Made(7), [])
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 365 * 86400)

    def work(running: step.Step) -> None:
        assert running.ensure(Made) == Made(7)

    assert step.run("convert", work, []) == 0
    convert, fetch = sorted(MlflowClient().search_runs(["0"]), key=lambda run: run.info.start_time)
    assert convert.data.tags[runs.STEP] == "convert"
    assert convert.info.status == fetch.info.status == "FINISHED"


def test_a_step_that_is_cancelled_is_killed() -> None:
    """SIGTERM, as MLflow and job schedulers send it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def work(_: step.Step) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    try:
        assert step.run("fetch", work, []) == INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    assert _last_run().info.status == "KILLED"


def test_only_a_step_nests_a_step() -> None:
    """A notebook's run may be the parent too, and tells nothing of what comes of the step."""
    nested = []
    work = _noting(lambda under_way: nested.append(under_way.nested))
    for name in ("notebook", "step"):
        with mlflow.start_run(run_name=name):
            if name == "step":
                mlflow.set_tag(runs.STEP, "main")
            step.run("fetch", work, [], new_run={"nested": True})

    assert nested == [False, True]


def _noting(note: Callable[[step.Step], None]) -> Callable[[step.Step], Result | None]:
    def work(under_way: step.Step) -> Result | None:
        note(under_way)
        return None

    return work
