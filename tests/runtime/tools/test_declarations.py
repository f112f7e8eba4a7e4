"""The tools of a request: OpenAI's and other clients' spellings, and hostile values."""

from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from slmflow.runtime.tools import declarations

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def tool(name: str = "get_weather", **function: Any) -> dict[str, Any]:
    fields = {"name": name, "description": "The weather", "parameters": SCHEMA, **function}
    return {"type": "function", "function": fields}


TOOLS = [tool(), tool("get_time")]
NAMED = {"type": "function", "function": {"name": "get_time"}}


def allowed(mode: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [NAMED]}}


@pytest.mark.parametrize(
    ("choice", "names", "is_required"),
    [
        (None, ["get_weather", "get_time"], False),
        ("auto", ["get_weather", "get_time"], False),
        ({"type": "auto"}, ["get_weather", "get_time"], False),
        ("required", ["get_weather", "get_time"], True),
        ("any", ["get_weather", "get_time"], True),
        ({"type": "any"}, ["get_weather", "get_time"], True),
        (NAMED, ["get_time"], True),
        ({"type": "function", "name": "get_time"}, ["get_time"], True),
        ({"type": "tool", "name": "get_time"}, ["get_time"], True),
        (allowed("auto"), ["get_time"], False),
        (allowed("required"), ["get_time"], True),
        ({"type": "allowed_tools", "mode": "auto", "tools": [NAMED]}, ["get_time"], False),
    ],
)
def test_spellings_of_tool_choice(choice: Any, names: list[str], is_required: bool) -> None:
    parsed = declarations.parse(TOOLS, choice, None)
    assert parsed is not None
    assert list(parsed.schemas) == names
    assert parsed.is_required is is_required
    assert parsed.declared == TOOLS


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [("auto", None, True), ("auto", False, False), ("required", True, True), (NAMED, True, False)],
)
def test_several_calls_unless_switched_off_or_named(
    choice: Any, parallel: bool | None, expected: bool
) -> None:
    parsed = declarations.parse(TOOLS, choice, parallel)
    assert parsed is not None
    assert parsed.parallel is expected


@pytest.mark.parametrize(
    ("tools", "choice", "parallel"),
    [
        *((None, None, None), (None, "none", None), (None, "auto", True), ([], None, False)),
        *((TOOLS, "none", None), (TOOLS, {"type": "none"}, True)),
    ],
)
def test_values_that_ask_for_nothing_are_accepted(tools: Any, choice: Any, parallel: Any) -> None:
    assert declarations.parse(tools, choice, parallel) is None


@pytest.mark.parametrize("parameters", [None, {}])
def test_tool_without_parameters_takes_no_arguments(parameters: Any) -> None:
    parsed = declarations.parse([tool(parameters=parameters)], None, None)
    assert parsed is not None
    [schema] = parsed.schemas.values()
    assert schema == {"type": "object", "properties": {}, "additionalProperties": False}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return {"type": "object", "properties": {"a": schema}}


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"tools": "all"}, "tools", "must be a list"),
        ({"tools": ["get_weather"]}, "tools", r"tools\[0\]='get_weather': must be an object"),
        ({"tools": [{"type": "web_search"}]}, "tools", "type='web_search' is not supported"),
        ({"tools": [{"type": "function"}]}, "tools", r"tools\[0\].function=None"),
        ({"tools": [tool(), tool()]}, "tools", "two of the name get_weather"),
        ({"tools": [tool(str(i)) for i in range(129)]}, "tools", "129 tools: give at most 128"),
        ({"tools": [tool("a b")]}, "tools", "name='a b': must be 1 to 64 letters"),
        ({"tools": [tool('x"}\n')]}, "tools", "must be 1 to 64 letters"),
        ({"tools": [tool("x\n")]}, "tools", "must be 1 to 64 letters"),
        ({"tools": [tool("é")]}, "tools", "must be 1 to 64 letters"),
        ({"tools": [tool("a" * 65)]}, "tools", "must be 1 to 64 letters"),
        ({"tools": [tool(description=3)]}, "tools", "description=3: must be text"),
        ({"tools": [tool(parameters=[])]}, "tools", "must be a JSON schema of an object"),
        ({"tools": [tool(parameters={"type": "string"})]}, "tools", "JSON schema of an object"),
        ({"tools": [tool(parameters=nested(60))]}, "tools", "nested more than"),
        ({"tools": [tool(parameters={"default": float("nan")})]}, "tools", "is not JSON"),
        ({"tools": [tool(description="\ud800")]}, "tools", "half a character"),
        ({"tools": TOOLS, "choice": "always"}, "tool_choice", "'always': must be none, auto"),
        ({"tools": TOOLS, "choice": 3}, "tool_choice", "must be none, auto"),
        ({"tools": TOOLS, "choice": {"type": ["auto"]}}, "tool_choice", "must be none, auto"),
        ({"tools": TOOLS, "choice": {"type": "function"}}, "tool_choice", "must be none, auto"),
        ({"tools": TOOLS, "choice": allowed("none")}, "tool_choice", "must be none, auto"),
        ({"tools": TOOLS[:1], "choice": NAMED}, "tool_choice", "'get_time' is not among the tools"),
        ({"tools": TOOLS[:1], "choice": allowed("auto")}, "tool_choice", "is not among the tools"),
        ({"choice": "required"}, "tool_choice", "requires tools"),
        ({"choice": NAMED}, "tool_choice", "requires tools"),
        ({"parallel": "no"}, "parallel_tool_calls", "must be true or false"),
    ],
)
def test_invalid_values_are_rejected_by_name(
    fields: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(MlflowException, match=message) as rejected:
        declarations.parse(fields.get("tools"), fields.get("choice"), fields.get("parallel"))
    assert rejected.value.get_http_status_code() == 400
    assert rejected.value.json_kwargs["param"] == param
