"""Options beyond length and temperature, on the real model."""

import json
from typing import Any

import pandas as pd
import pytest
from mlflow.pyfunc import PyFuncModel

from tests.fixtures.bundled_model import Reference

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}, "certain": {"type": "boolean"}},
    "required": ["city", "certain"],
    "additionalProperties": False,
}
RESPONSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
NESTED = {
    "type": "object",
    "properties": {
        "cities": {"type": "array", "items": SCHEMA, "minItems": 2, "maxItems": 3},
        "years": {"type": "array", "items": {"enum": [1789, 1871, 1958]}, "maxItems": 3},
    },
    "required": ["cities", "years"],
    "additionalProperties": False,
}


def text(model: PyFuncModel, **options: Any) -> str:
    [completion] = model.predict({"messages": QUESTION, **options})
    return completion["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, False),
        ({"presence_penalty": 2.0}, True),
        ({"frequency_penalty": 2.0}, True),
        ({"presence_penalty": 1.0, "frequency_penalty": 1.0}, True),
        ({"repetition_penalty": 1.5}, True),
        ({"repetition_penalty": 10.0}, True),
        ({"repetition_penalty": 10.0, "presence_penalty": -2.0}, True),
    ],
)
def test_penalties_equal_those_of_transformers(
    pyfunc: PyFuncModel, reference: Reference, options: dict[str, float], changes: bool
) -> None:
    """The question is not in the training data, so the logits are close to each other."""
    import torch
    from transformers import LogitsProcessorList

    question = [{"role": "user", "content": "x y z " * 5}]
    [completion] = pyfunc.predict({"messages": question, **options})
    prompt = reference.prompt(question)

    def penalize(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        counts = torch.bincount(ids[0, len(prompt) :], minlength=scores.shape[-1])
        presence, frequency = (options.get(f"{n}_penalty", 0.0) for n in ("presence", "frequency"))
        return scores - frequency * counts - presence * (counts > 0)

    ids = reference.continue_prompt(
        prompt,
        48,
        repetition_penalty=options.get("repetition_penalty", 1.0),
        logits_processor=LogitsProcessorList([penalize]),
    )
    assert completion["choices"][0]["message"]["content"] == reference.text(ids)
    assert completion["usage"]["completion_tokens"] == len(ids)
    plain = reference.text(reference.generate(question, 48))
    assert (reference.text(ids) != plain) is changes


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 1.0, "seed": 3},
        {"temperature": 1.0, "top_k": 99_999, "seed": 3},
        {"presence_penalty": 1.0},
    ],
)
def test_completion_follows_schema(pyfunc: PyFuncModel, options: dict[str, Any]) -> None:
    answer = json.loads(text(pyfunc, response_format=RESPONSE_FORMAT, max_tokens=60, **options))
    assert answer.keys() == {"city", "certain"}
    assert answer["city"] in ("Paris", "Rome")
    assert isinstance(answer["certain"], bool)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 3}])
@pytest.mark.parametrize("schema", [NESTED, {"$defs": {"it": NESTED}, "$ref": "#/$defs/it"}])
def test_json_is_compact_and_complete(
    pyfunc: PyFuncModel, schema: dict[str, Any], options: dict[str, Any]
) -> None:
    kind = {"type": "json_schema", "json_schema": {"schema": schema}}
    answer = text(pyfunc, response_format=kind, max_tokens=120, **options)

    assert answer == json.dumps(json.loads(answer), separators=(",", ":"))


def test_schema_may_allow_white_space(pyfunc: PyFuncModel) -> None:
    loose = {**NESTED, "x-guidance": {"whitespace_flexible": True}}
    kind = {"type": "json_schema", "json_schema": {"schema": loose}}

    assert text(pyfunc, response_format=kind, max_tokens=120).split(maxsplit=1)[1:]


def test_seed_and_penalty_apply_with_schema(pyfunc: PyFuncModel) -> None:
    free = {"type": "object", "properties": {"it": {"type": "string", "maxLength": 20}}}
    kind = {"type": "json_schema", "json_schema": {"schema": {**free, "required": ["it"]}}}

    def guided(**options: Any) -> str:
        return text(pyfunc, response_format=kind, **options)

    assert guided(temperature=2.0, top_k=0, seed=1) == guided(temperature=2.0, top_k=0, seed=1)
    assert len({guided(temperature=2.0, top_k=0, seed=seed) for seed in range(4)}) > 1
    assert guided(repetition_penalty=10.0) != guided()


def test_rows_with_and_without_schema_in_one_frame(pyfunc: PyFuncModel) -> None:
    rows = pd.DataFrame(
        {
            "messages": [QUESTION] * 3,
            "response_format": [None, RESPONSE_FORMAT, {"type": "text"}],
            "max_tokens": [60] * 3,
        }
    )
    free, guided, text_again = (
        completion["choices"][0]["message"]["content"] for completion in pyfunc.predict(rows)
    )
    assert free == text_again == text(pyfunc)
    assert json.loads(guided)
