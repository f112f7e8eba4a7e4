"""What a user sees of the command line: help, and one message for bad input."""

from pathlib import Path

import pytest
import yaml

from slmflow.config import compose as configs
from slmflow.config import overrides
from tests.fixtures.project import Sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def test_hydra_shows_the_config_it_would_run(sandbox: Sandbox) -> None:
    done = sandbox.step("main", "target=cpu_int8", "--cfg", "job")

    assert done.status == 0
    shown = yaml.safe_load(done.output)
    assert shown["target"]["quantization"]["bits"] == 8
    assert not (sandbox.folder / "mlflow.db").exists()


def test_hydra_shows_what_a_run_makes_of_its_arguments(sandbox: Sandbox) -> None:
    """A threshold of a metric that no file has, and a text that is no Hydra expression."""
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


def test_hydra_is_asked_of_no_config_that_cannot_be(sandbox: Sandbox) -> None:
    done = sandbox.step("main", "--cfg", "job", "target=cpu_int3", "registry.gaet.x=1")

    assert done.status == 2
    assert len(done.messages) == 1
    assert "cpu_int4" in done.errors
    assert "registry.gaet.x: unknown" in done.errors


def test_hydra_shows_its_help(sandbox: Sandbox) -> None:
    done = sandbox.step("convert", "--help")

    assert done.status == 0
    assert "target: cpu_fp32, cpu_int4, cpu_int8, cuda_fp16, cuda_int4, dml_int4" in done.output


def test_by_hand_bad_arguments_end_with_status_2(sandbox: Sandbox) -> None:
    done = sandbox.step("main", "target=cpu_int3", "generation.temperature=hot")

    assert done.status == 2
    assert len(done.messages) == 1
    assert "cpu_int4" in done.errors
    assert "Traceback" not in done.errors


@pytest.mark.parametrize(
    ("arguments", "said"),
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
def test_through_mlflow_the_run_is_failed_and_says_why(
    sandbox: Sandbox, arguments: tuple[str, ...], said: str
) -> None:
    done = sandbox.mlflow_run(*arguments)

    [run] = sandbox.client.search_runs(["0"])
    assert done.status == 1
    assert run.info.status == "FAILED"
    assert said in run.data.tags["slmflow.error"]
    assert len(done.messages) == 1
    assert said in done.messages[0]
    assert "Traceback" not in done.errors
    assert not list(sandbox.folder.rglob("pwned"))


def test_a_step_that_fails_fails_the_workflow_with_its_message(sandbox: Sandbox) -> None:
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


def test_a_target_this_machine_cannot_run_is_refused_before_any_work(sandbox: Sandbox) -> None:
    done = sandbox.step("main", "target=dml_int4")

    assert done.status == 1
    assert "log_genai" in done.messages[0]
    assert {made.name for made in (sandbox.folder / "home").glob("*")} <= {"locks"}


def test_bad_questions_are_refused_before_any_work(sandbox: Sandbox) -> None:
    questions = sandbox.folder / "questions.jsonl"
    questions.write_text('{"question": "a?"}\nnot json\n')

    done = sandbox.step("main", f"evaluation.data={questions}")

    assert done.status == 1
    assert "line 1: no answer" in done.errors
    assert "line 2: not JSON" in done.errors
    assert len(done.messages) == 1
    assert {made.name for made in (sandbox.folder / "home").glob("*")} <= {"locks"}


def test_a_tracking_server_that_cannot_be_used_is_said(sandbox: Sandbox) -> None:
    sandbox.environment["MLFLOW_TRACKING_URI"] = "nonsense://server"

    done = sandbox.step("fetch")

    assert done.status == 1
    assert len(done.messages) == 1
    assert "nonsense://server" in done.messages[0]
    assert "Traceback" not in done.errors
