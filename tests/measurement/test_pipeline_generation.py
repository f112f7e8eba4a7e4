"""Batched generation compared with MLflow's own answers, token by token."""

import json
import random

import mlflow
from mlflow.pyfunc import PyFuncModel

from slmflow.flavors.chat_interfaces import request_completion
from slmflow.measurement.pipeline_generation import PipelineGenerator
from slmflow.paths import PROJECT
from slmflow.pipeline.results import TransformersModel
from tests.fixtures.bundled_model import Reference

_LINES = (PROJECT / "bundled" / "capitals" / "evaluation.jsonl").read_text().splitlines()
QUESTIONS = [json.loads(line)["question"] for line in _LINES]

Messages = list[dict[str, str]]


def conversations() -> list[Messages]:
    """Return conversations of many lengths, whose answers have many lengths too."""
    shuffled = random.Random(0)
    asked = [[{"role": "user", "content": question}] for question in QUESTIONS[:60:5]]
    for words in (3, 17, 40):
        text = " ".join(shuffled.sample(" ".join(QUESTIONS).split(), words))
        asked.append([{"role": "user", "content": text}])
    turns = ("user", QUESTIONS[0]), ("assistant", "It is Kabul."), ("user", QUESTIONS[1])
    return [*asked, [{"role": role, "content": content} for role, content in turns]]


def load(logged: TransformersModel) -> PyFuncModel:
    return mlflow.pyfunc.load_model(logged.model_uri)


def answer_alone(generator: PipelineGenerator, model: PyFuncModel, messages: Messages) -> list[int]:
    """Let MLflow answer; return the generated ids."""
    request_completion(model, messages)
    return generator.last.generated_ids


def check_batched(model: PyFuncModel, asked: list[Messages]) -> dict[int, list[int]]:
    """Answer alone by MLflow and in batches; return the generated ids, which must be the same."""
    generator = PipelineGenerator(model)
    alone = {number: answer_alone(generator, model, each) for number, each in enumerate(asked)}
    prompts = {number: generator.encode(each) for number, each in enumerate(asked)}
    assert dict(generator.generate(prompts)) == alone
    return alone


def test_batched_answers_equal_those_of_mlflow(
    pipeline: TransformersModel, reference: Reference
) -> None:
    asked = conversations()
    alone = check_batched(load(pipeline), asked)
    for number, messages in enumerate(asked):
        assert alone[number] == reference.generate(messages, 48)
    assert len({len(ids) for ids in alone.values()}) > 3
