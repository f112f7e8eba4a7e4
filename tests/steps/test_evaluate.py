"""The whole step, with small MLflow models instead of those that other steps log."""

import json
from pathlib import Path

import mlflow
import pytest

from slmflow.config import compose as configs
from slmflow.datasets import rows
from slmflow.metrics.model_metrics import HEADLINES
from slmflow.pipeline import results, runs
from slmflow.pipeline.results import Evaluation
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run
from steps.evaluate import evaluate
from tests.fixtures.tracking import read_table
from tests.metrics.test_comparison import COLUMNS, COMPARED
from tests.registry.finished_runs import newest_run
from tests.steps.conftest import ReadErrors
from tests.steps.replaced_models import ensure_with, write_rows

pytestmark = pytest.mark.usefixtures("tracking")

PARROT = ("chat_model.py",)  # repeats the question


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the test fail if a step starts to build a model."""
    monkeypatch.setattr(Step, "ensure", lambda _, kind: pytest.fail(f"{kind.step} is built"))


def test_comparison_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Step, "ensure", ensure_with(PARROT, PARROT))
    file = write_rows(tmp_path, ("one two", "one two"), ("three four", "three five"))
    assert run("evaluate", evaluate, [f"evaluation.data={file}"]) == 0

    parent, *children = sorted(
        mlflow.search_runs(output_format="list"),
        key=lambda each: "mlflow.parentRunId" in each.data.tags,
    )
    by_name = {child.info.run_name: child for child in children}
    assert set(by_name) == {"transformers tiny_phi3", "genai tiny_phi3 cpu_int4"}
    assert all(c.data.tags["mlflow.parentRunId"] == parent.info.run_id for c in children)

    reference, genai = read_table(parent.info.run_id)
    assert " ".join(genai) == COLUMNS
    assert (reference["flavor"], genai["flavor"]) == ("transformers", "genai")
    assert (reference["agreement"], genai["agreement"]) == (None, 1)
    assert (reference["verdict"], genai["verdict"]) == (None, "too few rows to tell")
    assert (genai["exact_match_difference"], genai["perplexity_ratio"]) == (0, pytest.approx(1))
    assert genai["precision"] == "int4"
    assert (genai["n"], genai["exact_match"], genai["token_f1"]) == (2, 0.5, 0.75)
    assert genai["model_size_mb"] == 5
    assert genai["perplexity"] == pytest.approx(2)

    artifacts = {file.path for file in mlflow.artifacts.list_artifacts(run_id=parent.info.run_id)}
    assert {"comparison.json", "comparison.md", "comparison.png", results.FILE} <= artifacts
    assert parent.data.metrics["genai.exact_match"] == 0.5
    assert "transformers.agreement" not in parent.data.metrics
    latency = by_name["genai tiny_phi3 cpu_int4"].data.metrics["latency_ms_p50"]
    assert latency == pytest.approx(genai["latency_ms_p50"])

    assert len(parent.data.metrics) <= 2 * len(HEADLINES)
    measured = {each.model_id for each in mlflow.get_run(parent.info.run_id).inputs.model_inputs}
    known = mlflow.search_logged_models(output_format="list")
    assert measured == {each.model_id for each in known}
    traces = mlflow.search_traces(
        run_id=by_name["genai tiny_phi3 cpu_int4"].info.run_id, return_type="list"
    )
    assert [each.info.request_preview for each in traces] != []
    first = next(each for each in traces if "three" in each.info.request_preview)
    values = {each.name: each.value for each in first.info.assessments}
    assert values == {
        "expected_response": "three five",
        "reference": "three four",
        "agreement": True,
        "exact_match": False,
        "token_f1": 0.5,
    }
    (data,) = parent.inputs.dataset_inputs
    assert data.dataset.name == "rows"
    expected = rows.read(configs.load([f"evaluation.data='{file}'"]))
    assert data.dataset.digest == rows.digest(expected)
    (model,) = mlflow.search_logged_models(filter_string="name='genai'", output_format="list")
    scored = {metric.key: metric for metric in model.metrics}
    assert scored["agreement"].value == 1
    assert scored["load_s"].dataset_digest == data.dataset.digest

    evaluation = runs.load_result(Evaluation, parent.info.run_id)
    assert evaluation.run_id == parent.info.run_id
    assert evaluation.metrics[1]["model_uri"] == model.model_uri
    evaluation.check()


def test_both_flavors_receive_the_same_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = ("recording_model.py",)
    monkeypatch.setattr(Step, "ensure", ensure_with(recorder, recorder))
    (tmp_path / "rows.csv").write_text("question,answer\none?,1\ntwo?,2\n")
    (tmp_path / "shots.jsonl").write_text('{"question": "zero?", "answer": "0"}')
    arguments = [f"evaluation.data={tmp_path}/rows.csv", "evaluation.system=Count, please."]
    arguments += [f"evaluation.examples={tmp_path}/shots.jsonl"]
    arguments += ["--evaluation.template", "{question} In digits:"]
    assert run("evaluate", evaluate, arguments) == 0
    all_runs = mlflow.search_runs(output_format="list")
    children = [each for each in all_runs if "mlflow.parentRunId" in each.data.tags]
    recorded = []
    for child in children:
        records = read_table(child.info.run_id, "eval_results_table")
        assert {each["question"] for each in records} == {"one? In digits:", "two? In digits:"}
        recorded.append([json.loads(each["prediction"]) for each in records])
    transformers, genai = recorded
    assert transformers == genai
    assert [(message["role"], message["content"]) for message in genai[1]] == [
        ("system", "Count, please."),
        ("user", "zero? In digits:"),
        ("assistant", "0"),
        ("user", "two? In digits:"),
    ]


def test_user_metric_is_part_of_the_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Step, "ensure", ensure_with(PARROT, PARROT))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_metrics.py").write_text(
        "def words(answer, expected):\n    return len(answer.split())\n"
    )
    file = write_rows(tmp_path, ("one", "uno"), ("a b c", "a"))
    arguments = [f"evaluation.data={file}", "evaluation.metrics=[my_metrics:words]"]
    assert run("evaluate", evaluate, arguments) == 0

    parent = newest_run("evaluate")
    assert parent.data.metrics["genai.words"] == 2
    for row in read_table(parent.info.run_id):
        assert " ".join(row) == f"{COLUMNS} words {COMPARED.format('words')}"
    (child,) = mlflow.search_runs(filter_string="run_name LIKE 'genai %'", output_format="list")
    assert child.data.metrics["words_low"] == 1
    assert child.data.metrics["words_p"] == 1
    first, second = read_table(child.info.run_id, "eval_results_table")
    assert (first["words/score"], second["words/score"]) == (1, 3)
    assert (first["contains/score"], second["contains/score"]) == (0, 1)
    assert first["first_diverging_token"] is second["first_diverging_token"] is None
    assert "| `words` | 2 (1 to 3) |" in mlflow.artifacts.load_text(
        f"runs:/{parent.info.run_id}/comparison.md"
    )


@pytest.mark.parametrize(
    ("argument", "status", "reason"),
    [
        ("target=cuda_int4", 1, "no cuda provider"),
        ("evaluation.data=rows.jsonl", 1, "line 1: no answer"),
        (
            "evaluation.metrics=[nowhere:f]",
            2,
            "nowhere:f cannot be imported (ModuleNotFoundError: No module named",
        ),
    ],
)
@pytest.mark.usefixtures("no_models")
def test_invalid_input_is_rejected_before_any_model_is_built(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    printed: ReadErrors,
    argument: str,
    status: int,
    reason: str,
) -> None:
    monkeypatch.setattr("onnxruntime_genai.is_cuda_available", lambda: False)
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "a?"}')
    assert run("evaluate", evaluate, [argument.replace("rows.jsonl", str(file))]) == status
    errors = printed()
    assert errors.count("error:") == 1
    assert reason in errors


def test_failing_user_metric_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: ReadErrors
) -> None:
    monkeypatch.setattr(Step, "ensure", ensure_with(PARROT, PARROT))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "picky_metrics.py").write_text("def picky(a, e):\n    return 1 / (a == e)\n")
    file = write_rows(tmp_path, ("one", "one"), ("a b", "a"))
    arguments = [f"evaluation.data={file}", "evaluation.metrics=[picky_metrics:picky]"]
    assert run("evaluate", evaluate, arguments) == 1
    reason = "picky_metrics:picky cannot score the answer 'a b' where 'a' is expected: Zero"
    assert reason in printed()
