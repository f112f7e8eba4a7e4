"""The command line as users see it: help, and one message for invalid input."""

from pathlib import Path

import pytest
import yaml

from slmflow.config import compose as configs
from slmflow.config import overrides
from tests.fixtures.project import Sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def test_cfg_flag_shows_the_composed_config(sandbox: Sandbox) -> None:
    done = sandbox.step("main", "target=cpu_int8", "--cfg", "job")

    assert done.status == 0
    shown = yaml.safe_load(done.output)
    assert shown["target"]["quantization"]["bits"] == 8
    assert not (sandbox.folder / "mlflow.db").exists()


def test_cfg_flag_shows_the_config_of_a_run(sandbox: Sandbox) -> None:
    """With a threshold that no file has, and a text that is not a Hydra expression."""
    given = (
        *("registry.gate.bleu.min=30", "registry.gate.bleu.max=90"),
        "registry.gate.exact_match.min=0.9",
        "evaluation.template=Be brief, be exact: {question}",
    )

    done = sandbox.step("main", *given, "--cfg", "job", "--resolve")

    assert done.status == 0
    shown = yaml.safe_load(done.output)
    assert shown == configs.to_dict(configs.load(overrides.from_arguments(given)))
    assert shown["registry"]["gate"]["bleu"] == {"min": 30.0, "max": 90.0, "max_drop": None}
    assert sandbox.step("main", *given, "--help").status == 0


def test_cfg_flag_rejects_invalid_config(sandbox: Sandbox) -> None:
    done = sandbox.step("main", "--cfg", "job", "target=cpu_int3", "registry.gaet.x=1")

    assert done.status == 2
    assert len(done.messages) == 1
    assert "cpu_int4" in done.errors
    assert "registry.gaet.x: unknown" in done.errors


def test_help_lists_the_choices(sandbox: Sandbox) -> None:
    done = sandbox.step("convert", "--help")

    assert done.status == 0
    assert "target: cpu_fp32, cpu_int4, cpu_int8, cuda_fp16, cuda_int4, dml_int4" in done.output


def test_bad_arguments_exit_with_status_2(sandbox: Sandbox) -> None:
    done = sandbox.step("main", "target=cpu_int3", "generation.temperature=hot")

    assert done.status == 2
    assert len(done.messages) == 1
    assert "cpu_int4" in done.errors
    assert "Traceback" not in done.errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-P", "model=$(touch pwned); touch pwned"), "unknown"),
        *(
            pytest.param(*each, marks=pytest.mark.long)
            for each in (
                (("-P", "generation.temprature=1"), "Did you mean generation.temperature?"),
                (("-P", "target=cpu_int3"), "target=cpu_int3: unknown. Did you mean"),
                (("-P", "model=local", "-P", "model.path=/no; touch pwned"), "there is no folder"),
            )
        ),
    ],
)
def test_mlflow_run_fails_with_the_message(
    sandbox: Sandbox, arguments: tuple[str, ...], message: str
) -> None:
    done = sandbox.mlflow_run(*arguments)

    [run] = sandbox.client.search_runs(["0"])
    assert done.status == 1
    assert run.info.status == "FAILED"
    assert message in run.data.tags["slmflow.error"]
    assert len(done.messages) == 1
    assert message in done.messages[0]
    assert "Traceback" not in done.errors
    assert not list(sandbox.folder.rglob("pwned"))


def test_failed_step_fails_the_workflow_with_its_message(sandbox: Sandbox) -> None:
    broken = sandbox.folder / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")

    done = sandbox.step("main", "model=local", f"model.path={broken}")

    runs = {run.data.tags["slmflow.step"]: run for run in sandbox.client.search_runs(["0"])}
    assert done.status == 1
    assert len(done.messages) == 1
    assert {run.info.status for run in runs.values()} == {"FAILED"}
    assert "step fetch failed: " in runs["main"].data.tags["slmflow.error"]
    assert runs["fetch"].data.tags["slmflow.error"] in runs["main"].data.tags["slmflow.error"]


def test_unsupported_target_is_rejected_before_any_work(sandbox: Sandbox) -> None:
    done = sandbox.step("main", "target=dml_int4")

    assert done.status == 1
    assert "log_genai" in done.messages[0]
    assert {entry.name for entry in (sandbox.folder / "home").glob("*")} <= {"locks"}


def test_invalid_rows_are_rejected_before_any_work(sandbox: Sandbox) -> None:
    questions = sandbox.folder / "questions.jsonl"
    questions.write_text('{"question": "a?"}\nnot json\n')

    done = sandbox.step("main", f"evaluation.data={questions}")

    assert done.status == 1
    assert "line 1: no answer" in done.errors
    assert "line 2: not JSON" in done.errors
    assert len(done.messages) == 1
    assert {entry.name for entry in (sandbox.folder / "home").glob("*")} <= {"locks"}


def test_unusable_tracking_server_is_reported(sandbox: Sandbox) -> None:
    sandbox.environment["MLFLOW_TRACKING_URI"] = "nonsense://server"

    done = sandbox.step("fetch")

    assert done.status == 1
    assert len(done.messages) == 1
    assert "nonsense://server" in done.messages[0]
    assert "Traceback" not in done.errors
