"""Metrics of tasks as columns of the comparison."""

import math
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.models import Model

from slmflow.config import compose as configs
from slmflow.config.schema.registry import Threshold
from slmflow.errors import UserError
from slmflow.measurement.harness.task_records import NO_FILTER, TaskColumn, TaskMetric, TaskResults
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Measurement, from_json, to_json
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import SHARE
from slmflow.metrics.task_metrics import evaluate_tasks
from slmflow.registry import gate

pytestmark = pytest.mark.usefixtures("tracking")

ACC = TaskColumn("quiz", "acc", NO_FILTER, 5, "mean", higher_is_better=True)
PPL = TaskColumn("text", "word_perplexity", NO_FILTER, 0, "weighted_perplexity", False)
F1 = TaskColumn("quiz", "f1", NO_FILTER, 5, "f1_score", higher_is_better=True)


def measurement(folder: Path, flavor: str, correct: int, nats: float) -> Measurement:
    """40 rows of a quiz, and 40 texts of 3 to 5 words with some nats per word."""
    scores = [(1.0 if row < correct else 0.0, 1.0) for row in range(40)]
    words = [3 + row % 3 for row in range(40)]
    texts = [(-nats * n * (1 + row % 2 / 10), float(n)) for row, n in enumerate(words)]
    perplexity = math.exp(-sum(a for a, _ in texts) / sum(words))
    results = TaskResults(
        (
            TaskMetric(ACC, correct / 40, tuple(scores)),
            TaskMetric(PPL, perplexity, tuple(texts)),
            TaskMetric(F1, 0.5, ()),
        ),
        row_count=80,
        digest="d" * 64,
    )
    model_uri = folder / flavor
    model_uri.mkdir()
    Model(flavors={"transformers": {"torch_dtype": "torch.float32"}}).save(model_uri / "MLmodel")
    model = MeasuredModel(flavor, str(model_uri), "", 10**6)
    return Measurement(model, None, None, (), None, tasks=results)


@pytest.fixture
def compared(tmp_path: Path) -> Comparison:
    models = measurement(tmp_path, "transformers", 36, 1.0), measurement(tmp_path, "genai", 12, 1.3)
    measured = from_json(to_json(models))
    config = configs.load(["evaluation=lm_eval", "evaluation.tasks=[quiz,text]"])
    with mlflow.start_run() as run:
        models = evaluate_tasks(config, measured)
    return Comparison(run.info.run_id, "tiny", tuple(model.metrics for model in models))


def test_values_have_intervals_and_paired_comparisons(compared: Comparison) -> None:
    model = compared.compared
    low, high = model.intervals["quiz_acc"]
    assert (model.n, model.value("quiz_acc")) == (80, 0.3)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 40)  # of the normal approximation
    assert (low, high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.025)  # one of 40 rows
    assert model.p_values["quiz_acc"] < 0.001
    assert model.differences["quiz_acc"].value == pytest.approx(-0.6)
    low, high = model.intervals["text_word_perplexity"]
    assert low < (model.value("text_word_perplexity") or 0) < high
    assert model.p_values["text_word_perplexity"] < 0.001


def test_statistics_give_the_value_of_the_harness(compared: Comparison) -> None:
    reference = compared.models[0]
    difference = compared.compared.differences["text_word_perplexity"]
    assert difference.value == pytest.approx(
        (compared.compared.value("text_word_perplexity") or 0)
        - (reference.value("text_word_perplexity") or 0)
    )


def test_metric_of_another_form_has_its_value_alone(compared: Comparison) -> None:
    model = compared.compared
    assert model.value("quiz_f1") == 0.5
    assert "quiz_f1" not in model.intervals | model.p_values


def test_lower_perplexity_is_better(compared: Comparison) -> None:
    assert compared.effects["text_word_perplexity"] == "worse"
    assert compared.effects["quiz_acc"] == "worse"


def test_table_has_tasks_in_place_of_rows(compared: Comparison) -> None:
    names = compared.metric_names
    assert names == ("n", "model_size_mb", "quiz_acc", "text_word_perplexity", "quiz_f1")
    row = compared.compared.columns()
    assert row["quiz_acc"] == 0.3 and row["quiz_acc_low"] is not None
    assert compared.compared.mlflow_metrics()["genai.quiz_acc"] == 0.3
    assert compared.compared.column("quiz_acc").format == SHARE
    assert compared.compared.column("quiz_acc").meaning == "acc of the task quiz, 5-shot"


@pytest.mark.parametrize("metric", ["quiz_acc", "text_word_perplexity"])
def test_gate_stops_a_drop_in_a_task(compared: Comparison, metric: str) -> None:
    with pytest.raises(UserError, match=f"{metric} is .*: worse by"):
        gate.enforce(
            {metric: Threshold(max_drop=0.05)}, compared.compared, "test", compared.models, None
        )


def test_tasks_are_a_dataset_of_the_run(compared: Comparison) -> None:
    [logged] = mlflow.get_run(compared.run_id).inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("lm_eval", "d" * 36)


def test_task_that_one_model_lacks_is_not_tested(tmp_path: Path) -> None:
    reference = measurement(tmp_path, "transformers", 36, 1.0)
    model = measurement(tmp_path, "genai", 12, 1.0)
    assert reference.tasks is not None
    shorter = TaskResults(reference.tasks.metrics[1:], 80, "d" * 64)
    config = configs.load(["evaluation=lm_eval", "evaluation.tasks=[quiz,text]"])
    with mlflow.start_run():
        _, converted = evaluate_tasks(
            config, [Measurement(reference.model, None, None, (), None, tasks=shorter), model]
        )
    assert converted.metrics.value("quiz_acc") == 0.3
    assert "quiz_acc" not in converted.metrics.p_values
    assert np.isfinite(converted.metrics.p_values["text_word_perplexity"])
