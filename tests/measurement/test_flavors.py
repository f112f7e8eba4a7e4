"""Both flavors of the bundled model, asked the same questions side by side."""

from collections.abc import Sequence
from pathlib import Path

import mlflow
import pytest

from slmflow.config import compose as configs
from slmflow.datasets import rows
from slmflow.datasets.rows import Row
from slmflow.flavors.genai_result import GenaiModel
from slmflow.flavors.transformers_result import TransformersModel
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.turns import measure
from slmflow.measurement.worker import Asked
from steps.log_genai import log_genai
from steps.log_transformers import log_transformers
from tests.fixtures.bundled_model import AStep


@pytest.mark.long
def test_greedy_answers_at_fp32_are_the_same_on_the_whole_bundled_set(
    pipeline: TransformersModel, chat: GenaiModel
) -> None:
    questions = rows.read(configs.load(["target=cpu_fp32"]))
    models = [MeasuredModel.of(pipeline), MeasuredModel.of(chat)]
    transformers, genai = measure(models, questions)
    assert len(questions) == 195
    assert [a.text for a in genai.answers] == [a.text for a in transformers.answers]
    counts = [
        [answer.completion_tokens for answer in each.answers] for each in (transformers, genai)
    ]
    assert counts[0] == counts[1]
    assert genai.likelihoods and transformers.likelihoods
    for ours, theirs in zip(genai.likelihoods, transformers.likelihoods, strict=True):
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-3)
        assert ours.tokens == theirs.tokens


def test_with_a_seed_runs_repeat(weights: Path, onnx: Path, experiment: str) -> None:
    hot = ("generation=sampling", "generation.temperature=2.0", "generation.max_new_tokens=8")
    config = configs.load(hot)
    questions = rows.read(config)[:3]
    with mlflow.start_run(experiment_id=experiment):
        models = [log_transformers(AStep(config, weights)), log_genai(AStep(config, weights, onnx))]
    for model in models:
        first, again, other = (_said(model.model_uri, questions, seed) for seed in (7, 7, 8))
        assert first == again != other


def _said(model_uri: str, questions: Sequence[Row], seed: int) -> list[str]:
    """Return what a model that is loaded anew answers, in this process."""
    asked = Asked(model_uri, questions, seed)
    return [asked.answer(position).text for position in range(len(questions))]
