"""A base model through the steps: rows and files must be prompts, and are measured as such."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.config import compose
from slmflow.config.overrides import from_arguments
from slmflow.config.schema.config import Config
from slmflow.datasets import rows
from slmflow.errors import UserError
from slmflow.measurement import interleaved, prompt_models
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.pipeline import runs
from slmflow.pipeline.results import GenaiModel, TransformersModel, Weights
from tests.batch.conftest import workspace
from tests.batch.workspace import BatchWorkspace
from tests.fixtures.base_model import BaseModel, BaseReference
from tests.steps.replaced_models import write_rows

__all__ = ["workspace"]

TEMPLATE = "Question: {question}\nAnswer:"
ROWS = [("What is the capital of France?", "Paris"), ("Who are you?", "Nobody")]
CONVERSATION = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Bye"},
]


def load(arguments: list[str]) -> Config:
    return compose.load(from_arguments(arguments))


@dataclasses.dataclass(frozen=True)
class WeightsStep:
    """The part of `Step` that a check of rows uses."""

    config: Any
    weights: Path

    def ensure(self, kind: Any) -> Any:
        assert kind is Weights
        return Weights(str(self.weights))

    find = ensure


@pytest.fixture
def measured_models(
    base_genai: GenaiModel, base_pipeline: TransformersModel
) -> list[MeasuredModel]:
    return [MeasuredModel.from_logged(each) for each in (base_pipeline, base_genai)]


def test_both_flavors_are_sent_the_filled_template(
    measured_models: list[MeasuredModel],
    base_model: BaseModel,
    base_reference: BaseReference,
    tmp_path: Path,
) -> None:
    """Answers equal transformers' continuation, likelihoods that of the answer after a space."""
    overrides = [
        f"evaluation.data={write_rows(tmp_path, *ROWS)}",
        f"evaluation.template={TEMPLATE}",
    ]
    questions = rows.read(load([*base_model.overrides, *overrides]))
    for measured in interleaved.measure(measured_models, questions):
        assert all(timing.latency_s > 0 for timing in measured.timings)
        for (question, answer), given, likelihood in zip(
            ROWS, measured.answers, measured.likelihoods or (), strict=True
        ):
            prompt = TEMPLATE.replace("{question}", question)
            assert given.text == base_reference.continue_text(prompt).strip()
            logprob, tokens = base_reference.score(prompt, answer)
            assert (likelihood.logprob, likelihood.tokens) == (
                pytest.approx(logprob, abs=1e-3),
                tokens,
            )


def test_choices_are_scored_after_a_space(
    measured_models: list[MeasuredModel],
    base_model: BaseModel,
    base_reference: BaseReference,
    tmp_path: Path,
) -> None:
    file = write_rows(tmp_path, ("Capital of France?", "B"), choices=["Rome", "Paris", "Lima"])
    [row] = rows.read(load([*base_model.overrides, f"evaluation.data={file}"]))
    prompt = "Capital of France?\nA. Rome\nB. Paris\nC. Lima\nAnswer:"
    expected = [base_reference.score(prompt, letter)[0] for letter in "ABC"]
    for measured in interleaved.measure(measured_models, [row]):
        assert measured.choice_logprobs
        assert measured.choice_logprobs[0] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("cause", ["system", "examples", "messages"])
def test_conversations_are_refused_before_any_model_loads(
    base_model: BaseModel, base_genai: GenaiModel, tmp_path: Path, cause: str
) -> None:
    file = write_rows(tmp_path, *ROWS)
    if cause == "messages":
        file.write_text(json.dumps({"messages": CONVERSATION, "answer": "Bye"}))
    overrides = {
        "system": ["evaluation.system=Be brief."],
        "examples": [f"evaluation.examples={file}"],
        "messages": [],
    }[cause]
    config = load([*base_model.overrides, f"evaluation.data={file}", *overrides])
    count = "1 of 1" if cause == "messages" else "2 of 2"
    step: Any = WeightsStep(config, base_model.weights)
    message = rf"no chat template.* {count} rows are conversations.*model\.template=FILE"
    with pytest.raises(UserError, match=message):
        prompt_models.check_rows(step, rows.read(config))
    uri = f"evaluation.model_uri={base_genai.model_uri}"
    alone: Any = WeightsStep(load([f"evaluation.data={file}", uri, *overrides]), Path())
    with pytest.raises(UserError, match=f"takes a prompt, .* {count} rows are conversations"):
        prompt_models.check_rows(alone, rows.read(alone.config))


@pytest.mark.parametrize("flavor", ["base_genai", "base_pipeline"])
def test_batch_continues_prompts_and_refuses_messages(
    flavor: str,
    workspace: BatchWorkspace,
    request: pytest.FixtureRequest,
    base_reference: BaseReference,
) -> None:
    uri = request.getfixturevalue(flavor).model_uri
    prompts = [f"The capital of {country} is" for country in ("France", "Japan", "Peru")]
    workspace.write("in.jsonl", [{"prompt": prompt} for prompt in prompts])
    assert workspace.batch(uri, "in.jsonl", "out.jsonl", "batch.columns.question=prompt") == 0
    answers = [row["answer"] for row in workspace.read("out.jsonl")]
    assert answers == [base_reference.continue_text(prompt).strip() for prompt in prompts]
    workspace.write("in.jsonl", [{"question": "Hi"}, {"messages": CONVERSATION}])
    assert workspace.batch(uri, "in.jsonl", "refused.jsonl") != 0
    error = workspace.newest_run().data.tags[runs.ERROR]
    assert "1 of 2 rows have the column messages, but the model has no chat template" in error
    assert "batch.columns.question" in error
    assert not (workspace.folder / "refused.jsonl").exists()
