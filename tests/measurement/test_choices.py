"""The log-probabilities of the choices, against transformers' own logits."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from slmflow.datasets.rows import Row
from slmflow.flavors.genai_result import GenaiModel
from slmflow.flavors.transformers_result import TransformersModel
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Likelihood, Measurement
from slmflow.measurement.turns import measure
from tests.fixtures import choice_questions
from tests.fixtures.bundled_model import Reference
from tests.measurement.models.logged import PROMPT, saved

ROW = Row([{"role": "user", "content": "?"}], "B", ["yes", "no", "maybe"])


def letters_of(reference: Reference, row: Row) -> list[float]:
    """The log-probabilities of A, B, C and D as the first token of the answer: one pass."""
    with torch.no_grad():
        logits = reference.model(torch.tensor([reference.prompt(row.messages)])).logits[0, -1]
    tokens = [reference.tokenizer.encode(letter, add_special_tokens=False) for letter in "ABCD"]
    assert all(len(each) == 1 for each in tokens)
    return logits.double().log_softmax(-1)[torch.tensor(tokens)[:, 0]].tolist()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    return choice_questions.read(tmp_path_factory.mktemp("choices"))


def test_both_flavors_and_a_prompt_give_those_of_transformers(
    pipeline: TransformersModel,
    chat: GenaiModel,
    prompted: GenaiModel,
    reference: Reference,
    rows: list[Row],
) -> None:
    models = [MeasuredModel.of(each) for each in (pipeline, chat, prompted)]
    expected = [letters_of(reference, row) for row in rows]
    for measured in measure(models, rows):
        assert measured.choices is not None and measured.likelihoods is not None
        for found, wanted in zip(measured.choices, expected, strict=True):
            assert found == pytest.approx(wanted, abs=1e-3)
        for row, likelihood, found in zip(
            rows, measured.likelihoods, measured.choices, strict=True
        ):
            assert found is not None
            assert likelihood == Likelihood(found["ABCD".index(row.answer)], 1)


@pytest.mark.usefixtures("tracking")
def test_what_a_model_does_not_tell(tmp_path: Path) -> None:
    plain = Row(ROW.messages, "no")
    (parrot, echo) = measure(
        [
            saved(tmp_path / "chat", "chat_model.py"),
            saved(tmp_path / "e", "prompt_model.py", PROMPT),
        ],
        [ROW, plain],
    )
    assert parrot.choices == ((math.log(0.5),) * 3, None)
    assert echo.choices is echo.likelihoods is None
    for measured in (parrot, echo):
        assert Measurement.from_json(_through_json(measured)) == measured


def _through_json(measured: Measurement) -> dict[str, object]:
    return json.loads(json.dumps(dataclasses.asdict(measured)))
