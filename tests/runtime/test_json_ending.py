"""JSON of a model that writes without end is complete, and valid."""

import json
from typing import Any

import pytest
from mlflow.pyfunc import PyFuncModel
from pydantic import BaseModel, RootModel

from tests.fixtures.bundled_model import Reference
from tests.runtime.test_options import QUESTION


class Count(BaseModel):
    n: int


class Person(BaseModel):
    name: str
    age: int


class Tree(BaseModel):
    label: str
    height: float
    children: "list[Tree]"


class Mixed(BaseModel):
    value: str | float | None
    weights: dict[str, float]
    tags: list[str]


class Base(BaseModel):
    a: int


Numbers = RootModel[list[int]]
People = RootModel[list[Person]]
SCHEMAS: list[type[BaseModel]] = [Count, Person, Tree, Mixed, Numbers, People]
OPTIONS = [{}, {"temperature": 1.0, "seed": 1}, {"temperature": 2.0, "seed": 2, "max_tokens": 90}]


def complete(model: PyFuncModel, response_format: Any, **options: Any) -> tuple[str, int]:
    """Return the text and the number of tokens of a completion that ends by itself."""
    request = {"max_tokens": 300, **options, "response_format": response_format}
    [completion] = model.predict({"messages": QUESTION, **request})
    [choice] = completion["choices"]
    assert choice["finish_reason"] == "stop"
    return choice["message"]["content"], completion["usage"]["completion_tokens"]


def json_schema(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", SCHEMAS, ids=lambda kind: kind.__name__)
def test_json_is_complete_and_valid(
    pyfunc: PyFuncModel, kind: type[BaseModel], options: dict[str, Any]
) -> None:
    text, _ = complete(pyfunc, json_schema(kind.model_json_schema()), **options)
    kind.model_validate_json(text, strict=True)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_json_object_is_complete(pyfunc: PyFuncModel, options: dict[str, Any]) -> None:
    text, _ = complete(pyfunc, {"type": "json_object"}, **options)
    assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize("kind", ["integer", "number"])
@pytest.mark.parametrize("seed", range(4))
def test_number_ends_long_before_max_tokens(pyfunc: PyFuncModel, kind: str, seed: int) -> None:
    schema = json_schema({"type": "object", "properties": {"n": {"type": kind}}, "required": ["n"]})
    text, tokens = complete(pyfunc, schema, temperature=1.5, seed=seed)
    assert tokens < 40
    assert abs(json.loads(text)["n"]) < (2**63 if kind == "integer" else float("inf"))


def test_object_has_the_listed_properties_only(pyfunc: PyFuncModel) -> None:
    schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}}
    for seed in range(4):
        text, tokens = complete(pyfunc, json_schema(schema), temperature=2.0, seed=seed)
        assert json.loads(text).keys() <= {"sure"}
        assert tokens < 20


def test_combined_objects_are_complete(pyfunc: PyFuncModel) -> None:
    parts = [Base.model_json_schema(), Person.model_json_schema()]
    text, _ = complete(pyfunc, json_schema({"allOf": parts}))
    assert json.loads(text).keys() >= {"a", "name", "age"}


def test_values_in_the_schema_are_never_cut(pyfunc: PyFuncModel) -> None:
    """Closing comes early here, as 60 tokens hardly hold the answer."""
    name = "The Most Serene Republic of Venice"
    schema = {
        "type": "object",
        "properties": {"n": {"const": 10**25}, "name": {"enum": [name]}},
        "required": ["n", "name"],
    }
    text, _ = complete(pyfunc, json_schema(schema), max_tokens=100)
    assert json.loads(text) == {"n": 10**25, "name": name}


class Link(BaseModel):
    label: str
    next: "Link | None"
    size: int


def test_recursion_that_the_model_prefers_is_ended(
    pyfunc: PyFuncModel, reference: Reference
) -> None:
    favored = [text for text in reference.tokenizer.get_vocab() if text.startswith(("{", '"'))]
    ids = reference.tokenizer.convert_tokens_to_ids(favored)
    schema = json_schema(Link.model_json_schema())

    def depth(max_tokens: int) -> int:
        text, _ = complete(
            pyfunc, schema, max_tokens=max_tokens, logit_bias={str(token): 20 for token in ids}
        )
        link: Link | None = Link.model_validate_json(text, strict=True)
        links = 0
        while link:
            link, links = link.next, links + 1
        return links

    assert 1 <= depth(60) < depth(150) < depth(400)
