"""Thinking models measured in both flavors: the answer is scored, the reasoning is kept."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.pyfunc import PyFuncModel

from slmflow.batch import model_worker
from slmflow.batch.input_rows import RowMessages
from slmflow.batch.requests import NumberedTexts, Partition, answer_partitions
from slmflow.datasets.rows import Row
from slmflow.flavors.chat_interfaces import find_interface
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, Likelihood, Measurement
from slmflow.measurement.scoring.likelihood import score_rows
from slmflow.measurement.worker import WorkerModel
from slmflow.metrics import answer_table
from slmflow.metrics.scoring import METRICS
from slmflow.pipeline.results import GenaiModel, TransformersModel
from tests.fixtures.bundled_model import Reference
from tests.fixtures.thinking_model import OPENED, QUESTION, Thinking, ThinkingModel

FLAVORS = [TransformersModel, GenaiModel]
KINDS = {
    "plain": Thinking(),
    "opened": Thinking(OPENED),
    "special": Thinking(OPENED, "[THINK]", "[/THINK]", is_special=True),
}
ROW = Row(messages=QUESTION, answer="Paris.")


@pytest.fixture(params=KINDS)
def model(
    request: pytest.FixtureRequest, thinking_model: Callable[[Thinking], ThinkingModel]
) -> ThinkingModel:
    return thinking_model(KINDS[request.param])


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("overrides", [[], ["generation.template.enable_thinking=false"]])
def test_both_flavors_answer_as_transformers(
    model: ThinkingModel, experiment: str, flavor: type, overrides: list[str]
) -> None:
    logged = model.log(flavor, experiment, *overrides)
    variables = {"enable_thinking": False} if overrides else {}
    reasoning, text = model.answer(QUESTION, **variables)

    worker = WorkerModel(logged.model_uri, [ROW], seed=None, warm_up=[0])
    answers = [
        _answer(command([0])) for command in (worker.time, worker.answer_alone, worker.answer)
    ]

    assert bool(reasoning) != bool(overrides)
    prompt_tokens = len(model.prompt(QUESTION, **variables))
    completion_tokens = len(model.generate(QUESTION, **variables))  # of reasoning and answer
    for answer in answers:
        assert (answer.reasoning or "", answer.text) == (reasoning, text)
        assert (answer.prompt_tokens, answer.completion_tokens) == (
            prompt_tokens,
            completion_tokens,
        )
    predictor = mlflow.pyfunc.load_model(logged.model_uri)
    _check_score(predictor, model, variables)
    _check_batch(predictor, text)
    _check_table(answers[-1], logged, exact=float(text == ROW.answer))


def _answer(replies: Iterator[dict[str, Any]]) -> Answer:
    [reply] = replies
    return Answer(**reply["answer"])


def _check_score(predictor: PyFuncModel, model: ThinkingModel, variables: dict[str, bool]) -> None:
    """The answer follows the prompt, or the end of the block that the prompt opens."""
    prompt = model.prompt(QUESTION, **variables)
    is_open = model.tokenizer.decode(prompt).endswith(model.kind.start)
    closing = f"\n{model.kind.end}\n\n" if is_open else ""
    ids = model.tokenizer.encode(closing, add_special_tokens=False)

    class Prompted(Reference):
        def prompt(self, messages: list[dict[str, str]]) -> list[int]:
            return prompt + ids

    expected = Prompted(model.tokenizer, model.model).score(QUESTION, ROW.answer)
    scores = score_rows(predictor, {0: ROW})
    assert scores is not None
    likelihood = Likelihood(pytest.approx(expected[0], abs=1e-4), expected[1])
    assert list(scores) == [(0, likelihood, None)]


def _check_batch(loaded: PyFuncModel, text: str) -> None:
    predictor = model_worker.RequestPredictor(loaded)

    def predict(partitions: Iterable[NumberedTexts]) -> Iterator[NumberedTexts]:
        for number, requests in partitions:
            yield number, predictor.predict(pd.DataFrame({model_worker.REQUEST_COLUMN: requests}))

    interface = find_interface(loaded.metadata)
    partitions = [Partition(0, [RowMessages(QUESTION)])]
    [(_, [answer])] = answer_partitions(partitions, interface, predict)
    assert (answer.answer, answer.error) == (text, None)


def _check_table(answer: Answer, logged: GenaiModel, exact: float) -> None:
    measurement = Measurement(
        MeasuredModel.from_logged(logged), 0.0, None, (answer,), (Likelihood(-1.0, 2),)
    )
    table = answer_table.build(measurement, [ROW])
    assert ("reasoning" in table) == bool(answer.reasoning)
    [exact_match] = [metric for metric in METRICS if metric.name == "exact_match"]
    assert exact_match.row_statistics(table)[0, 0] == exact


def test_mlflow_alone_honors_the_configured_variable(
    thinking_model: Callable[[Thinking], ThinkingModel], experiment: str
) -> None:
    """The transformers flavor as MLflow serves it, without slmflow."""
    model = thinking_model(KINDS["opened"])
    off = model.log(TransformersModel, experiment, "generation.template.enable_thinking=false")
    [output] = mlflow.pyfunc.load_model(off.model_uri).predict({"messages": QUESTION})
    content = output["choices"][0]["message"]["content"]
    assert content == model.answer(QUESTION, enable_thinking=False)[1]
