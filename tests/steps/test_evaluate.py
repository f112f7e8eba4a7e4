"""The whole step, with small MLflow models instead of those that other steps log."""

import json
from pathlib import Path
from typing import Any

import mlflow
import pytest

from slmflow.config import compose as configs
from slmflow.datasets import rows
from slmflow.paths import PROJECT
from slmflow.pipeline import results, runs
from slmflow.pipeline.results import Evaluation, Measurements, OnnxModel
from slmflow.pipeline.step import Step, run
from steps.evaluate import evaluate
from steps.measure import measure
from tests.measurement.models.logged import log_model
from tests.metrics.test_comparison import COLUMNS

TINY_PHI3 = PROJECT / "bundled" / "tiny_phi3"


def ensure_parrots(step: Step, kind: Any) -> Any:
    """Replace `Step.ensure`: both flavors are models that repeat the question."""
    return _ensure(step, kind, "chat_model.py")


def ensure_recorders(step: Step, kind: Any) -> Any:
    return _ensure(step, kind, "recording_model.py")


def _ensure(step: Step, kind: Any, code: str) -> Any:
    if kind is Measurements:
        return measure(step)
    return OnnxModel(str(TINY_PHI3)) if kind is OnnxModel else log_model(kind, code)


def ensure_nothing(_: Step, kind: Any) -> Any:
    pytest.fail(f"{kind.step} must not be built")


def test_comparison_is_logged(
    tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Step, "ensure", ensure_parrots)
    answers = [("one two", "one two"), ("three four", "three five")]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"question": q, "answer": a}) for q, a in answers))
    assert run("evaluate", evaluate, [f"evaluation.data={file}"]) == 0

    parent, *children = sorted(
        mlflow.search_runs(output_format="list"),
        key=lambda each: "mlflow.parentRunId" in each.data.tags,
    )
    by_name = {child.info.run_name: child for child in children}
    assert set(by_name) == {"transformers", "genai"}
    assert all(c.data.tags["mlflow.parentRunId"] == parent.info.run_id for c in children)

    table = mlflow.artifacts.load_dict(f"runs:/{parent.info.run_id}/comparison.json")
    assert " ".join(table["columns"]) == COLUMNS
    reference, genai = (dict(zip(table["columns"], row, strict=True)) for row in table["data"])
    assert (reference["flavor"], genai["flavor"]) == ("transformers", "genai")
    assert (reference["agreement"], genai["agreement"]) == (None, 1)
    assert (genai["n"], genai["exact_match"], genai["token_f1"]) == (2, 0.5, 0.75)
    assert genai["model_size_mb"] == 5
    assert genai["perplexity"] == pytest.approx(2)

    artifacts = {file.path for file in mlflow.artifacts.list_artifacts(run_id=parent.info.run_id)}
    assert {"comparison.json", "comparison.md", "comparison.png", results.FILE} <= artifacts
    assert parent.data.metrics["genai.exact_match"] == 0.5
    assert "transformers.agreement" not in parent.data.metrics
    latency = by_name["genai"].data.metrics["latency_ms_p50"]
    assert latency == pytest.approx(genai["latency_ms_p50"])

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
    tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Step, "ensure", ensure_recorders)
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
        table = mlflow.artifacts.load_dict(f"runs:/{child.info.run_id}/eval_results_table.json")
        records = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
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
    tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Step, "ensure", ensure_parrots)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_metrics.py").write_text(
        "def words(answer, expected):\n    return len(answer.split())\n"
    )
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "one", "answer": "uno"}\n{"question": "a b c", "answer": "a"}')
    arguments = [f"evaluation.data={file}", "evaluation.metrics=[my_metrics:words]"]
    assert run("evaluate", evaluate, arguments) == 0

    (parent,) = mlflow.search_runs(
        filter_string="tags.`slmflow.step` = 'evaluate'", output_format="list"
    )
    assert parent.data.metrics["genai.words"] == 2
    assert parent.data.metrics["genai.words_low"] == 1
    assert parent.data.metrics["genai.words_p"] == 1
    table = mlflow.artifacts.load_dict(f"runs:/{parent.info.run_id}/comparison.json")
    assert " ".join(table["columns"]) == f"{COLUMNS} words words_low words_high words_p"
    (child,) = mlflow.search_runs(filter_string="run_name = 'genai'", output_format="list")
    rows = mlflow.artifacts.load_dict(f"runs:/{child.info.run_id}/eval_results_table.json")
    by_name = dict(zip(rows["columns"], zip(*rows["data"], strict=True), strict=True))
    assert by_name["words/score"] == (1, 3)
    assert by_name["contains/score"] == (0, 1)
    assert by_name["first_diverging_token"] == (None, None)
    assert "| `words` | 2 (1 to 3) |" in mlflow.artifacts.load_text(
        f"runs:/{parent.info.run_id}/comparison.md"
    )


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("target=cuda_int4", "no cuda provider"),
        ("evaluation.data=rows.jsonl", "line 1: no answer"),
    ],
)
def test_invalid_input_is_rejected_before_any_model_is_built(
    tracking: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argument: str,
    reason: str,
) -> None:
    monkeypatch.setattr(Step, "ensure", ensure_nothing)
    monkeypatch.setattr("onnxruntime_genai.is_cuda_available", lambda: False)
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "a?"}')
    argument = argument.replace("rows.jsonl", str(file))
    assert run("evaluate", evaluate, [argument]) == 1
    assert reason in " ".join(capsys.readouterr().err.split())


def test_invalid_metric_is_rejected_before_any_model_is_built(
    tracking: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Step, "ensure", ensure_nothing)
    assert run("evaluate", evaluate, ["evaluation.metrics=[nowhere:f]"]) == 2
    stderr = " ".join(capsys.readouterr().err.split())
    assert stderr.count("error:") == 1
    assert "nowhere:f cannot be imported (ModuleNotFoundError: No module named" in stderr


def test_failing_user_metric_is_reported(
    tracking: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Step, "ensure", ensure_parrots)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "picky_metrics.py").write_text("def picky(a, e):\n    return 1 / (a == e)\n")
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "one", "answer": "one"}\n{"question": "a b", "answer": "a"}')
    arguments = [f"evaluation.data={file}", "evaluation.metrics=[picky_metrics:picky]"]
    assert run("evaluate", evaluate, arguments) == 1
    reason = "picky_metrics:picky cannot score the answer 'a b' where 'a' is expected: Zero"
    assert reason in " ".join(capsys.readouterr().err.split())
