"""Multiple choice from file to comparison, with real models."""

import json
from pathlib import Path

import mlflow
import pytest
import torch

from slmflow.config import compose as configs
from slmflow.measurement.interleaved import Plan
from slmflow.measurement.interleaved import measure as measured_in_turns
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.metrics import evaluation_inputs
from slmflow.metrics.evaluate_models import evaluate_models
from slmflow.pipeline.results import GenaiModel, OnnxModel, TransformersModel
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run
from steps.evaluate import evaluate
from tests.fixtures import choice_questions
from tests.fixtures.bundled_model import Reference
from tests.fixtures.tracking import read_table
from tests.measurement.models.logged import PROMPT
from tests.registry.finished_runs import newest_run
from tests.steps.conftest import ReadErrors
from tests.steps.replaced_models import TINY_PHI3, ensure_with, write_rows

PARROT_AND_ECHO = ("chat_model.py",), ("prompt_model.py", PROMPT)


def test_accuracy_follows_the_largest_logit_of_transformers(
    pipeline: TransformersModel,
    chat: GenaiModel,
    reference: Reference,
    experiment: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    config = configs.load(
        ["target=cpu_fp32", f"evaluation.data={choice_questions.write_questions(tmp_path)}"]
    )
    inputs = evaluation_inputs.read(config)
    letters = [reference.tokenizer.encode(each, add_special_tokens=False)[0] for each in "ABCD"]
    chosen = []
    for row in inputs.rows:
        ids = torch.tensor([reference.prompt(row.messages)])
        with torch.no_grad():
            logits = reference.model(ids).logits[0, -1, letters]
        chosen.append("ABCD"[int(logits.argmax())])
    correct = [choice == row.answer for choice, row in zip(chosen, inputs.rows, strict=True)]
    assert 0 < sum(correct) < len(correct)

    models = [MeasuredModel.from_logged(pipeline), MeasuredModel.from_logged(chat)]
    measurements = measured_in_turns(models, inputs.rows, Plan(timed_rows=1))
    with mlflow.start_run() as parent:
        onnx = OnnxModel(str(TINY_PHI3), mean_kl=0.04)
        both = evaluate_models(config, inputs, measurements, onnx, TINY_PHI3 / "tokenizer.json")
    assert [each.metrics.mean_kl for each in both] == [None, 0.04]
    for each in both:
        table = each.table.sort_index()
        assert table["choice"].tolist() == chosen
        assert table["subject"].tolist() == [row.subject for row in inputs.rows]
        assert each.metrics.accuracy == pytest.approx(sum(correct) / len(correct))
        low, high = each.metrics.intervals["accuracy"]
        assert low < each.metrics.accuracy < high
    assert both[1].metrics.p_values["accuracy"] == 1
    filter_string = (
        f"run_name LIKE 'genai %' AND tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    (child,) = mlflow.search_runs([experiment], filter_string, output_format="list")
    logged = mlflow.artifacts.load_dict(f"runs:/{child.info.run_id}/eval_results_table.json")
    assert {"choice", "subject", "accuracy/score"} <= set(logged["columns"])


def test_model_without_scores_has_no_accuracy(
    tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: ReadErrors
) -> None:
    """The parrot finds all letters equally likely and takes the first; the echo cannot score."""
    monkeypatch.setattr(Step, "ensure", ensure_with(*PARROT_AND_ECHO))
    file = tmp_path / "rows.jsonl"
    rows = [("a?", "A", "x|y"), ("b?", "B", "x|y"), ("c?", "A", "z")]
    file.write_text(
        "\n".join(
            json.dumps({"question": q, "choices": ["yes", "no"], "answer": a, "subject": s})
            for q, a, s in rows
        )
    )
    assert run("evaluate", evaluate, [f"evaluation.data={file}"]) == 0

    evaluation = newest_run("evaluate")
    parrot, echo = read_table(evaluation.info.run_id)
    assert parrot["accuracy"] == pytest.approx(2 / 3)
    assert echo["accuracy"] is echo["accuracy_p"] is echo["accuracy_low"] is None
    assert evaluation.data.metrics["transformers.accuracy_macro"] == pytest.approx((0.5 + 1) / 2)
    assert "genai.accuracy" not in evaluation.data.metrics
    page = mlflow.artifacts.load_text(f"runs:/{evaluation.info.run_id}/comparison.md")
    assert "| x\\|y | 50.0%" in page
    sentence = "genai reports no log-probabilities of texts"
    assert sentence in page
    assert sentence in printed()
    lines = mlflow.artifacts.load_dict(f"runs:/{evaluation.info.run_id}/subjects.json")["data"]
    assert [line[:4] for line in lines] == [
        ["x|y", "transformers", 2, 0.5],
        ["x|y", "genai", 2, None],
        ["z", "transformers", 1, 1.0],
        ["z", "genai", 1, None],
        ["macro average", "transformers", 3, 0.75],
        ["macro average", "genai", 3, None],
    ]


def test_built_in_metric_is_part_of_the_comparison(
    tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Step, "ensure", ensure_with(*PARROT_AND_ECHO))
    file = write_rows(tmp_path, *[("[1]", "one")] * 3)
    arguments = [f"evaluation.data={file}", "evaluation.metrics=[json_valid]"]
    assert run("evaluate", evaluate, arguments) == 0
    evaluation = newest_run("evaluate")
    logged = {name: value for name, value in evaluation.data.metrics.items() if "json" in name}
    assert logged == {"transformers.json_valid": 1, "genai.json_valid": 1}
    reference, converted = (
        {name: value for name, value in row.items() if "json" in name and value is not None}
        for row in read_table(evaluation.info.run_id)
    )
    low = pytest.approx(0.05 ** (1 / 3))
    interval = {"json_valid": 1, "json_valid_low": low, "json_valid_high": 1}
    assert reference == interval
    assert converted == {
        **interval,
        "json_valid_p": 1,
        # Three equal answers tell little.
        "json_valid_difference": 0,
        "json_valid_difference_low": pytest.approx(-0.6),
        "json_valid_difference_high": pytest.approx(0.6),
    }
    page = mlflow.artifacts.load_text(f"runs:/{evaluation.info.run_id}/comparison.md")
    cell = "100.0% (36.8% to 100.0%)"
    difference = "0 points (-60.0 to +60.0)"
    assert (
        f"| `json_valid` | {cell} | {cell} | {difference} | 1.000 | share of answers that are "
        "valid JSON" in page
    )
    assert not [name for name in evaluation.data.metrics if "accuracy" in name]
