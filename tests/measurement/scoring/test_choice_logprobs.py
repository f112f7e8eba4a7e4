"""The log-probabilities of choices, compared with transformers' logits."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from slmflow.datasets.rows import Row
from slmflow.measurement.interleaved import Plan, measure
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Likelihood, Measurement
from slmflow.pipeline.results import GenaiModel, TransformersModel
from tests.fixtures import choice_questions
from tests.fixtures.bundled_model import Reference
from tests.measurement.models.logged import PROMPT, save_model

ROW = Row([{"role": "user", "content": "?"}], "B", ["yes", "no", "maybe"])


def expected_logprobs(reference: Reference, row: Row) -> list[float]:
    """Return the log-probabilities of A, B, C and D as the first token of the answer."""
    with torch.no_grad():
        logits = reference.model(torch.tensor([reference.prompt(row.messages)])).logits[0, -1]
    tokens = [reference.tokenizer.encode(letter, add_special_tokens=False) for letter in "ABCD"]
    assert all(len(each) == 1 for each in tokens)
    return logits.double().log_softmax(-1)[torch.tensor(tokens)[:, 0]].tolist()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    return choice_questions.read_questions(tmp_path_factory.mktemp("choices"))


def test_all_interfaces_score_choices_like_transformers(
    pipeline: TransformersModel,
    chat: GenaiModel,
    prompted: GenaiModel,
    reference: Reference,
    rows: list[Row],
) -> None:
    models = [MeasuredModel.from_logged(each) for each in (pipeline, chat, prompted)]
    expected = [expected_logprobs(reference, row) for row in rows]
    for measured in measure(models, rows, Plan(timed_rows=1)):
        assert measured.choice_logprobs is not None and measured.likelihoods is not None
        for logprobs, wanted in zip(measured.choice_logprobs, expected, strict=True):
            assert logprobs == pytest.approx(wanted, abs=1e-3)
        for row, likelihood, logprobs in zip(
            rows, measured.likelihoods, measured.choice_logprobs, strict=True
        ):
            assert logprobs is not None
            assert likelihood == Likelihood(logprobs["ABCD".index(row.answer)], 1)


@pytest.mark.usefixtures("tracking")
def test_model_without_score_has_no_choice_logprobs(tmp_path: Path) -> None:
    plain = Row(ROW.messages, "no")
    models = [
        save_model(tmp_path / "chat", "chat_model.py"),
        save_model(tmp_path / "e", "prompt_model.py", PROMPT),
    ]
    parrot, echo = measure(models, [ROW, plain])
    assert parrot.choice_logprobs == ((math.log(0.5),) * 3, None)
    assert echo.choice_logprobs is echo.likelihoods is None
    for measured in (parrot, echo):
        stored = json.loads(json.dumps(dataclasses.asdict(measured)))
        assert Measurement.from_json(stored) == measured
