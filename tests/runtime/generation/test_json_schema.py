"""Bounds that are added to JSON schemas, and the text that closes a document."""

import json
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from pydantic import BaseModel

from slmflow.runtime.generation.json_schema import bound, longest_closing, reject_long_lists

Schema = dict[str, Any]


class City(BaseModel):
    name: str
    twins: "list[City]"


class Person(BaseModel):
    name: str
    home: City | None
    nickname: str = ""


def test_integer_without_limits_fits_int64() -> None:
    bounded = bound({"type": "integer"})
    assert -(2**63) <= bounded["minimum"] < 0 < bounded["maximum"] < 2**63


@pytest.mark.parametrize(
    ("schema", "added"),
    [
        ({"type": "integer", "minimum": 10**30}, {"maximum"}),
        ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 9}, set()),
        ({"type": ["integer", "null"], "maximum": 3}, {"minimum"}),
        ({"type": "number"}, set()),
        ({"enum": [10**30]}, set()),
        ({"type": "object"}, set()),
        ({"type": "object", "properties": {"a": True}}, {"additionalProperties"}),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "string"}}, set()),
        ({"properties": {"a": {}}, "patternProperties": {"^x": {}}}, set()),
    ],
    ids=str,
)
def test_what_a_schema_says_is_kept(schema: Schema, added: set[str]) -> None:
    bounded = bound(schema)
    assert bounded.keys() - schema.keys() == added
    assert schema.items() <= bounded.items()


def test_schemas_are_bounded_wherever_they_are() -> None:
    bounded = bound(Person.model_json_schema())
    assert bounded["additionalProperties"] is False
    assert bounded["$defs"]["City"]["additionalProperties"] is False
    nested = bound({"anyOf": [{"type": "array", "items": {"type": "integer"}}]})
    assert "maximum" in nested["anyOf"][0]["items"]


def test_names_and_values_are_no_schemas() -> None:
    schema = {
        "type": "object",
        "properties": {
            "properties": {"type": "string"},
            "type": {"enum": [{"type": "integer"}, {"properties": {"a": 1}}]},
        },
        "additionalProperties": False,
    }
    assert bound(schema) == schema


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
        {"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}]},
        {"$defs": {"A": {"properties": {"a": {}}}}, "$ref": "#/$defs/A", "properties": {"b": {}}},
    ],
    ids=["allOf", "anyOf", "$ref"],
)
def test_combined_objects_stay_open(schema: Schema) -> None:
    assert bound(schema) == schema


def test_closing_holds_what_is_required() -> None:
    closing = longest_closing(Person.model_json_schema())
    for text in ('"name":"",', '"home":', '"twins":[', '"nickname":""'):
        assert text in closing
    assert len(closing) < 150


@pytest.mark.parametrize(
    ("schema", "least"),
    [
        ({"enum": ["a", "Longyearbyen"]}, len('"Longyearbyen"')),
        ({"const": {"a": [1, 2]}}, len('{"a": [1, 2]}')),
        ({"type": "string", "minLength": 50}, 52),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 4}, 4 * len("false") + 5),
        ({"anyOf": [{"type": "null"}, {"type": "string", "minLength": 30}]}, 32),
        ({"type": "integer", "minimum": 10**12}, 13),
    ],
    ids=str,
)
def test_closing_is_at_least_the_shortest_document(schema: Schema, least: int) -> None:
    assert least <= len(longest_closing(schema)) <= 2 * least


def test_closing_of_hostile_schemas_is_short() -> None:
    doubling: Schema = {f"d{n}": _pair(f"d{n + 1}") for n in range(60)}
    for schema in (
        {"$defs": doubling, "$ref": "#/$defs/d0"},
        {"$ref": "#"},
        {"type": "string", "minLength": 10**9},
        {"type": "array", "items": {"type": "string"}, "minItems": 10**4},
        {"type": 5, "properties": 5, "required": [{}], "items": [], "anyOf": 5, "$ref": 5},
    ):
        assert len(longest_closing(schema)) <= 20_000
        json.dumps(bound(schema))


def _pair(name: str) -> Schema:
    reference = {"$ref": f"#/$defs/{name}"}
    return {"properties": {"a": reference, "b": reference}, "required": ["a", "b"]}


def test_long_lists_are_rejected_by_field() -> None:
    with pytest.raises(MlflowException, match="tools: maxItems=1000000: give at most") as raised:
        reject_long_lists({"anyOf": [{"type": "array", "maxItems": 10**6}]}, "tools")
    assert raised.value.json_kwargs == {"param": "tools"}
    reject_long_lists({"enum": [{"maxItems": 10**6}]}, "tools")
