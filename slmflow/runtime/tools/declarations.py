"""The tools that a request declares, and which of them its completion may or must call.

Names, descriptions and schemas come from outside: they are checked before a chat template or a
grammar sees them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from ..errors import reject
from ..prompts.template_variables import find_json_problem

FIELDS = ("tools", "tool_choice", "parallel_tool_calls")
"""The fields of a request that are parsed here."""

Declaration = Mapping[str, Any]
"""A tool as a client sends it, which is how a chat template gets it."""

# OpenAI's own limits.
_MAX_TOOLS = 128
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")

# Schemas of nested types that are not shared are the deepest.
_MAX_DEPTH = 48

_NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}

# A schema with no others has no parameters, where it lists none.
_KEYS_OF_NO_PARAMETERS = {"type", "properties", "required", "title", "description", "$schema"}

# What clients call the modes of `tool_choice`, OpenAI's own words first.
_MODES = {"none": "none", "auto": "auto", "required": "required", "any": "required"}


@dataclass(frozen=True)
class ToolRequest:
    """The tools of one request.

    declared: all of them, for the chat template; schemas: the parameters of those that may be
    called, by name; is_required: whether the completion has to call one; parallel: whether it may
    call several.
    """

    declared: Sequence[Declaration]
    schemas: Mapping[str, Mapping[str, Any]]
    is_required: bool
    parallel: bool


@dataclass(frozen=True)
class _Choice:
    """A parsed `tool_choice`: its mode, the names that it limits calls to, and whether to one."""

    mode: str
    names: frozenset[str] | None = None
    is_single: bool = False


def parse(tools: Any, choice: Any, parallel: Any) -> ToolRequest | None:
    """Return the tools of a request from its `FIELDS`, None where it declares or uses none.

    Raises MlflowException (HTTP 400), which names the field, for an invalid value.
    """
    schemas, parsed = _parse_tools(tools), _parse_choice(choice)
    if parallel is not None and not isinstance(parallel, bool):
        _reject("parallel_tool_calls", f"={parallel!r:.100}: must be true or false")
    if parsed.mode == "required" and not schemas:
        _reject("tool_choice", f"={choice!r:.100} requires tools: give some, or leave it out")
    names = schemas.keys() if parsed.names is None else parsed.names
    if unknown := sorted(names - schemas.keys()):
        known = f"use {', '.join(sorted(schemas))}" if schemas else "the request has none"
        _reject("tool_choice", f": {unknown[0]!r:.100} is not among the tools: {known}")
    if parsed.mode == "none" or not schemas:
        return None
    return ToolRequest(
        declared=tools,
        schemas={name: schema for name, schema in schemas.items() if name in names},
        is_required=parsed.mode == "required",
        parallel=parallel is not False and not parsed.is_single,
    )


def _parse_tools(tools: Any) -> dict[str, Mapping[str, Any]]:
    """Return the schemas of declared tools by name."""
    if tools is None:
        return {}
    if not isinstance(tools, list):
        _reject("tools", f"={tools!r:.100}: must be a list")
    if len(tools) > _MAX_TOOLS:
        _reject("tools", f" has {len(tools)} tools: give at most {_MAX_TOOLS}")
    schemas: dict[str, Mapping[str, Any]] = {}
    for index, tool in enumerate(tools):
        name, schema = _parse_tool(tool, f"[{index}]")
        if name in schemas:
            _reject("tools", f" has two of the name {name}: give each its own")
        schemas[name] = schema
    return schemas


def _parse_tool(tool: Any, place: str) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(tool, Mapping):
        _reject("tools", f"{place}={tool!r:.100}: must be an object")
    if tool.get("type") != "function":
        kind = tool.get("type")
        _reject("tools", f"{place}.type={kind!r:.100} is not supported: use function")
    if problem := find_json_problem(tool, _MAX_DEPTH):
        _reject("tools", f"{place}: {problem}")
    function = tool.get("function")
    if not isinstance(function, Mapping):
        _reject("tools", f"{place}.function={function!r:.100}: must be an object with name")
    place += ".function"
    name, description = function.get("name"), function.get("description")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        allowed = "must be 1 to 64 letters, digits, '_' or '-'"
        _reject("tools", f"{place}.name={name!r:.100}: {allowed}")
    if not isinstance(description, str | None):
        _reject("tools", f"{place}.description={description!r:.100}: must be text")
    return name, _parse_parameters(function.get("parameters"), place)


def _parse_parameters(schema: Any, place: str) -> Mapping[str, Any]:
    if schema is None or schema == {}:
        return _NO_PARAMETERS
    kind = schema.get("type", "object") if isinstance(schema, Mapping) else None
    if kind != "object":
        _reject("tools", f"{place}.parameters={schema!r:.100}: must be a JSON schema of an object")
    is_empty = not schema.get("properties") and schema.keys() <= _KEYS_OF_NO_PARAMETERS
    return {"type": "object", **schema, **({"additionalProperties": False} if is_empty else {})}


def _parse_choice(choice: Any) -> _Choice:
    if choice is None:
        return _Choice("auto")
    kind = choice.get("type") if isinstance(choice, Mapping) else choice
    if isinstance(kind, str) and kind in _MODES:
        return _Choice(_MODES[kind])
    if (name := _function_name(choice)) is not None:
        return _Choice("required", frozenset({name}), is_single=True)
    if kind == "allowed_tools" and (allowed := _parse_allowed(choice)):
        return allowed
    _reject(
        "tool_choice",
        f"={choice!r:.100}: must be none, auto, required or "
        '{"type": "function", "function": {"name": "..."}}',
    )


def _function_name(value: Any) -> str | None:
    """Return the name of `{"type": "function", "function": {"name": ...}}` or a flat spelling."""
    if not isinstance(value, Mapping) or value.get("type") not in ("function", "tool"):
        return None
    function = value.get("function")
    name = (function if isinstance(function, Mapping) else value).get("name")
    return name if isinstance(name, str) else None


def _parse_allowed(choice: Mapping[str, Any]) -> _Choice | None:
    """Parse OpenAI's `allowed_tools`; return None for an invalid value."""
    allowed = choice.get("allowed_tools", choice)
    tools = allowed.get("tools") if isinstance(allowed, Mapping) else None
    if not isinstance(tools, list) or not tools:
        return None
    names = [name for tool in tools if (name := _function_name(tool)) is not None]
    mode = allowed.get("mode", "auto")
    if mode not in ("auto", "required") or len(names) < len(tools):
        return None
    return _Choice(mode, frozenset(names))


def _reject(param: str, problem: str) -> NoReturn:
    reject(f"{param}{problem}", param=param)
