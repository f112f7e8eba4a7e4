"""The command line as users see it: help, and one message for invalid input."""

from pathlib import Path

import pytest
import yaml

from slmflow.config import compose as configs
from slmflow.config import overrides
from slmflow.pipeline.step_runner import run
from steps.main import main
from tests.fixtures.project import Sandbox
from tests.steps.conftest import ReadErrors


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def test_cfg_flag_shows_the_config_without_a_run(tmp_path: Path) -> None:
    """With a threshold that no file has, and a text that is not a Hydra expression."""
    sandbox = Sandbox(tmp_path, has_database=False)
    arguments = (
        *("target=cpu_int8", "registry.gate.bleu.min=30", "registry.gate.bleu.max=90"),
        "registry.gate.exact_match.min=0.9",
        "evaluation.template=Be brief, be exact: {question}",
    )

    shown = yaml.safe_load(sandbox.run_step("main", *arguments, "--cfg", "job", "--resolve").output)

    assert shown == configs.to_dict(configs.load(overrides.from_arguments(arguments)))
    assert shown["target"]["quantization"]["bits"] == 8
    assert shown["registry"]["gate"]["bleu"] == {"min": 30.0, "max": 90.0, "max_drop": None}
    assert sandbox.run_step("main", *arguments, "--help").status == 0
    assert not (sandbox.folder / "mlflow.db").exists()


def test_help_lists_the_choices(sandbox: Sandbox) -> None:
    cpu = "target: cpu_balanced, cpu_fp32, cpu_int4, cpu_int4_rtn, cpu_int8"

    shown = " ".join(sandbox.run_step("convert", "--help").check().output.split())

    assert f"{cpu}, cuda_fp16, cuda_int4, dml_int4" in shown


@pytest.mark.parametrize("flag", [(), ("--cfg", "job")])
def test_bad_arguments_exit_with_status_2(sandbox: Sandbox, flag: tuple[str, ...]) -> None:
    result = sandbox.run_step("main", *flag, "target=cpu_int3", "registry.gaet.x=1")

    assert result.status == 2
    assert "cpu_int4" in result.message
    assert "registry.gaet.x: unknown" in result.message


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["model=$(touch pwned); touch pwned"], "unknown"),
        *(
            pytest.param(*each, marks=pytest.mark.long)
            for each in (
                (["generation.temprature=1"], "Did you mean generation.temperature?"),
                (["target=cpu_int3"], "target=cpu_int3: unknown. Did you mean"),
                (["model=local", "model.path=/no; touch pwned"], "there is no folder"),
            )
        ),
    ],
)
def test_mlflow_run_fails_with_the_message(
    sandbox: Sandbox, pairs: list[str], message: str
) -> None:
    result = sandbox.mlflow_run(*(part for pair in pairs for part in ("-P", pair)))

    [run] = sandbox.client.search_runs(["0"])
    assert result.status == 1
    assert run.info.status == "FAILED"
    assert message in run.data.tags["slmflow.error"]
    assert message in result.message.splitlines()[0]
    assert not list(sandbox.folder.rglob("pwned"))


def test_failed_step_fails_the_workflow_with_its_message(sandbox: Sandbox) -> None:
    broken = sandbox.folder / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")

    result = sandbox.run_step("main", "model=local", f"model.path={broken}")

    runs = {run.data.tags["slmflow.step"]: run for run in sandbox.client.search_runs(["0"])}
    errors = {step: run.data.tags["slmflow.error"] for step, run in runs.items()}
    assert result.status == 1
    assert result.message
    assert {run.info.status for run in runs.values()} == {"FAILED"}
    assert "step fetch failed: " in errors["main"]
    assert errors["fetch"] in errors["main"]


@pytest.mark.parametrize(
    ("override", "messages"),
    [
        ("target=dml_int4", ["log_genai"]),
        ("evaluation.data=questions.jsonl", ["line 1: no answer", "line 2: not JSON"]),
    ],
)
@pytest.mark.usefixtures("tracking")
def test_invalid_input_is_rejected_before_any_work(
    tmp_path: Path, printed: ReadErrors, override: str, messages: list[str]
) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "a?"}\nnot json\n')

    status = run("main", main, [override.replace(questions.name, str(questions))])

    assert status == 1
    errors = printed()
    assert errors.count("error:") == 1
    assert all(message in errors for message in messages)
    kept = {"locks", "building", "servers"}
    assert {entry.name for entry in (tmp_path / "home").glob("*")} <= kept
    assert not list((tmp_path / "home" / "building").glob("*"))


def test_unusable_tracking_server_is_reported(sandbox: Sandbox) -> None:
    sandbox.environment["MLFLOW_TRACKING_URI"] = "nonsense://server"

    result = sandbox.run_step("fetch")

    assert result.status == 1
    assert "nonsense://server" in result.message
