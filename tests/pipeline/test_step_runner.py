"""A step's exit status, messages and MLflow run, with a real tracking store."""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow import MlflowClient

from slmflow.config import compose
from slmflow.config.schema.config import Config
from slmflow.errors import UserError
from slmflow.pipeline import run_pages, runs, step_runner
from slmflow.pipeline.failures import INTERRUPTED
from slmflow.pipeline.results import Result
from slmflow.pipeline.step import Step
from tests.pipeline.value_result import Value, last_run

pytestmark = pytest.mark.usefixtures("tracking")


def _raise(fault: BaseException) -> Callable[[Step], Result | None]:
    def work(_: Step) -> Result | None:
        raise fault

    return work


def test_secrets_appear_in_no_message_or_tag(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither from a library's message nor from the remote of a clone, which MLflow records."""
    monkeypatch.setenv("DATABRICKS_TOKEN", "dapiOfNobodyElse")
    monkeypatch.setenv("SLMFLOW_DEBUG", "1")
    remote = {"mlflow.gitRepoURL": "https://ci:wordToPass@example.org/a.git"}

    status = step_runner.run(
        "fetch", _raise(RuntimeError("Bearer dapiOfNobodyElse")), [], new_run={"tags": remote}
    )

    run = last_run()
    assert status == 1
    assert run.data.tags[runs.ERROR] == "RuntimeError: Bearer [hidden]"
    assert run.data.tags["mlflow.gitRepoURL"] == "https://[hidden]@example.org/a.git"
    output = "".join(capsys.readouterr())
    assert "Traceback" in output
    assert "Bearer [hidden]" in output
    assert "dapiOfNobodyElse" not in output
    assert b"dapiOfNobodyElse" not in Path("mlflow.db").read_bytes()


def test_step_logs_config_and_result() -> None:
    status = step_runner.run("fetch", lambda _: Value(7), ["--generation.temperature", "0.5"])

    run = last_run()
    assert (status, run.info.status) == (0, "FINISHED")
    assert run.data.params["model.path"] == "bundled/tiny_phi3"
    assert run.data.tags[runs.STEP] == "fetch"
    assert len(run.data.tags[runs.KEY]) == 64
    assert len(run.data.tags[runs.GIT_COMMIT]) == 40
    assert run.data.tags[runs.GIT_DIRTY] in ("true", "false")
    assert runs.load_result(Value, run.info.run_id) == Value(7)
    config = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/config.yaml")
    assert yaml.safe_load(config)["generation"]["temperature"] == 0.5


@pytest.mark.parametrize(
    ("name", "logged", "missing"),
    [
        ("fetch", "model.path", ("target", "generation", "spark", "registry")),
        ("convert", "target.quantization.bits", ("generation", "evaluation", "registry")),
        ("main", "registry.alias", ("spark", "serve", "sweep", "batch", "store")),
    ],
)
def test_step_logs_the_params_it_reads(name: str, logged: str, missing: tuple[str, ...]) -> None:
    step_runner.run(name, lambda _: None, [])

    params = last_run().data.params
    assert logged in params
    assert params["model.name"] == "tiny_phi3"
    assert {key.partition(".")[0] for key in params}.isdisjoint(missing)
    assert not {"None", "[]", "{}"} & set(params.values())


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("main", [], "tiny_phi3 cpu_int4"),
        ("main", ["target.quantization.block_size=64"], "tiny_phi3 cpu_int4 b64"),
        ("fetch", ["target=cpu_int8"], "fetch tiny_phi3"),
        ("serve", [], "serve slmflow-tiny_phi3@candidate"),
        ("rollback", [], "rollback slmflow-tiny_phi3"),
        ("evaluate", ["evaluation.model_uri=models:/a/1"], "evaluate models:/a/1"),
        ("sweep", ["target=cpu_int8,cpu_fp32"], "sweep tiny_phi3 cpu_int8,cpu_fp32"),
    ],
)
def test_run_is_named_after_model_and_target(
    name: str, arguments: list[str], expected: str
) -> None:
    step_runner.run(name, lambda _: None, arguments, read=_read_first_point)

    assert last_run().info.run_name == expected


def _read_first_point(arguments: Sequence[str]) -> tuple[Sequence[str], Config]:
    """Return overrides and, of those with several values, the config of the first."""
    return arguments, compose.load([each.partition(",")[0] for each in arguments])


@pytest.mark.parametrize(
    ("given", "shown"),
    [("popular-elk-287", "tiny_phi3 cpu_int4"), ("friday", "friday"), ("my-elk-287", "my-elk-287")],
)
def test_name_that_the_user_gave_stays(
    given: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = MlflowClient().create_run("0", run_name=given).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)

    assert step_runner.run("main", lambda _: None, []) == 0

    assert MlflowClient().get_run(run_id).info.run_name == shown


def test_name_that_mlflow_makes_up_is_recognized() -> None:
    assert run_pages.is_generated_name(MlflowClient().create_run("0").info.run_name)


@pytest.mark.parametrize(
    ("fault", "status", "state", "message"),
    [
        (UserError("the disk is full"), 1, "FAILED", "the disk is full"),
        (KeyboardInterrupt(), INTERRUPTED, "KILLED", "interrupted"),
        (ZeroDivisionError("a bug"), 1, "FAILED", "ZeroDivisionError: a bug"),
    ],
)
def test_failure_is_printed_once_and_tagged(
    fault: BaseException,
    status: int,
    state: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert step_runner.run("fetch", _raise(fault), []) == status

    run = last_run()
    assert run.info.status == state
    assert run.data.tags[runs.ERROR] == message
    errors = capsys.readouterr().err
    assert errors.count(f"error: {message}") == 1
    assert ("Traceback" in errors) == isinstance(fault, ZeroDivisionError)


def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLMFLOW_DEBUG", "1")

    step_runner.run("fetch", _raise(UserError("the disk is full")), [])

    assert "Traceback" in capsys.readouterr().err


def test_message_of_a_nested_step_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    step_runner.run("main", _raise(UserError("step convert failed: why", shown=True)), [])

    assert "why" not in capsys.readouterr().err
    assert last_run().data.tags[runs.ERROR] == "step convert failed: why"


def test_bad_arguments_start_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert step_runner.run("fetch", lambda _: Value(7), ["target=cpu_int3"]) == 2

    assert MlflowClient().search_runs(["0"]) == []
    assert "cpu_int4" in capsys.readouterr().err


def test_bad_arguments_are_tagged_on_the_project_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = MlflowClient().create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)

    assert step_runner.run("fetch", lambda _: Value(7), ["target=cpu_int3"]) == 2

    assert "target=cpu_int3" in MlflowClient().get_run(run_id).data.tags[runs.ERROR]


def test_params_logged_by_mlflow_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    client = MlflowClient()
    run_id = client.create_run("0").info.run_id
    client.log_param(run_id, "generation.temperature", "0.50")
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)

    assert step_runner.run("fetch", lambda _: Value(7), ["--generation.temperature", "0.50"]) == 0

    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["generation.temperature"] == "0.50"


def test_cancelled_step_is_killed() -> None:
    """By SIGTERM, as from MLflow and job schedulers."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def work(_: Step) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    try:
        assert step_runner.run("fetch", work, []) == INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    assert last_run().info.status == "KILLED"
