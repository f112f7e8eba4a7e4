"""Both flavors of the bundled model, measured side by side."""

from collections.abc import Sequence
from pathlib import Path

import mlflow
import pytest

from slmflow.config import compose as configs
from slmflow.datasets import rows
from slmflow.datasets.rows import Row
from slmflow.measurement.interleaved import Plan, measure
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import BatchCheck
from slmflow.measurement.worker import WorkerModel
from slmflow.pipeline.results import GenaiModel, TransformersModel
from steps.log_genai import log_genai
from steps.log_transformers import log_transformers
from tests.fixtures.bundled_model import StepInputs


@pytest.mark.long
def test_flavors_give_equal_greedy_answers_at_fp32(
    pipeline: TransformersModel, chat: GenaiModel
) -> None:
    questions = rows.read(configs.load(["target=cpu_fp32"]))
    models = [MeasuredModel.from_logged(pipeline), MeasuredModel.from_logged(chat)]
    transformers, genai = measure(models, questions, Plan(seed=0))
    assert len(questions) == 195
    assert [a.text for a in genai.answers] == [a.text for a in transformers.answers]
    counts = [
        [answer.completion_tokens for answer in each.answers] for each in (transformers, genai)
    ]
    assert counts[0] == counts[1]
    assert [each.batch_check for each in (transformers, genai)] == [BatchCheck(8)] * 2
    assert genai.likelihoods and transformers.likelihoods
    for ours, theirs in zip(genai.likelihoods, transformers.likelihoods, strict=True):
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-3)
        assert ours.tokens == theirs.tokens


def test_seed_makes_sampled_answers_repeatable(weights: Path, onnx: Path, experiment: str) -> None:
    sampling = ("generation=sampling", "generation.temperature=2.0", "generation.max_new_tokens=8")
    config = configs.load(sampling)
    questions = rows.read(config)[:3]
    with mlflow.start_run(experiment_id=experiment):
        models = [
            log_transformers(StepInputs(config, weights)),
            log_genai(StepInputs(config, weights, onnx)),
        ]
    for model in models:
        first, repeated, other = (_answers(model.model_uri, questions, seed) for seed in (7, 7, 8))
        assert first == repeated != other


def _answers(model_uri: str, questions: Sequence[Row], seed: int) -> list[str]:
    """Load the model in this process and return its answers, the first of them alone."""
    model = WorkerModel(model_uri, list(questions), seed, warm_up=[0])
    replies = [*model.time([0]), *model.answer(list(range(1, len(questions))))]
    texts = {reply["row"]: reply["answer"]["text"] for reply in replies}
    return [texts[number] for number in range(len(questions))]
