"""Tasks of lm-evaluation-harness, as far as they need no harness."""

import re
from importlib.util import find_spec

import pytest

from slmflow.config import compose as configs
from slmflow.errors import BadArguments
from slmflow.measurement.harness import lm_eval_tasks
from slmflow.measurement.harness.task_records import NO_FILTER, TaskColumn, duplicate_names
from slmflow.metrics import evaluation_inputs
from slmflow.paths import PROJECT
from slmflow.pipeline.keys import key_of
from slmflow.pipeline.results import Measurements
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run
from steps.main import main

OVERRIDES = ["evaluation=lm_eval", "evaluation.tasks=[capital_choice]"]
FOLDER = "tests/measurement/harness/tasks"


def column(task: str, metric: str, filter_name: str = NO_FILTER) -> TaskColumn:
    return TaskColumn(task, metric, filter_name, 0, "mean", higher_is_better=True)


@pytest.mark.skipif(find_spec("lm_eval") is not None, reason="lm_eval is installed")
def test_missing_harness_is_reported_before_any_work(
    tracking: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Step, "ensure", lambda _, kind: pytest.fail(f"{kind.step} is run"))
    message = r"lm_eval is not installed; run `uv pip install -r (requirements-lm-eval.txt)`"
    with pytest.raises(BadArguments, match=message) as error:
        lm_eval_tasks.check(configs.load(OVERRIDES))
    named = re.search(message, str(error.value))
    assert named and (PROJECT / named[1]).is_file()
    with pytest.raises(BadArguments, match=message):
        evaluation_inputs.numeric_columns(configs.load(OVERRIDES))
    assert run("main", main, OVERRIDES) == 2
    assert "lm_eval is not installed" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["evaluation=lm_eval"], "evaluation.data is missing: give a file, or evaluation.tasks"),
        (["evaluation=lm_eval", "evaluation.tasks=arc_easy"], "must be a list"),
        (["evaluation.tasks=[arc_easy]"], "evaluation.data has no effect .* evaluation=lm_eval"),
        ([*OVERRIDES, "evaluation.metrics=[json_valid]"], "evaluation.metrics has no effect"),
        ([*OVERRIDES, "evaluation.examples=shots.jsonl"], "evaluation.examples has no effect"),
        ([*OVERRIDES, "evaluation.task_folder=missing"], "there is no folder .*missing"),
        (["evaluation.task_folder=tests"], "name its tasks in evaluation.tasks"),
    ],
)
def test_invalid_tasks_are_rejected(overrides: list[str], message: str) -> None:
    with pytest.raises(BadArguments, match=message):
        configs.load(overrides)


def test_tasks_set_no_gate_on_rows() -> None:
    config = configs.load([*OVERRIDES, "registry.gate.capital_choice_acc.max_drop=0.02"])
    limits = {name: threshold.max_drop for name, threshold in config.registry.gate.items()}
    assert limits == {"exact_match": None, "token_f1": None, "capital_choice_acc": 0.02}


def test_key_covers_names_and_files_of_tasks() -> None:
    folders = (FOLDER, "tests/fixtures")
    keys = {
        key_of(Measurements, configs.load([*OVERRIDES, *others]))
        for others in (
            [],
            ["evaluation.tasks=[capital_answer]"],
            *([f"evaluation.task_folder={folder}"] for folder in folders),
        )
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("arc_easy", "acc"), "arc_easy_acc"),
        (("gsm8k", "exact_match", "strict-match"), "gsm8k_exact_match_strict_match"),
        (("lang:de", "acc,norm"), "lang_de_acc_norm"),
    ],
)
def test_column_is_named_after_task_metric_and_filter(parts: tuple[str, ...], name: str) -> None:
    assert column(*parts).name == name


def test_metrics_of_equal_column_names_are_found() -> None:
    columns = [column("a", "b_acc"), column("a_b", "acc"), column("a", "acc")]
    assert duplicate_names(columns) == ["a_b_acc"]
