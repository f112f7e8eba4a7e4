"""Tool calls and tool results among the messages of a request."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from ..errors import reject
from ..prompts.template_variables import find_json_problem

# A call in a conversation has been written by a model, or by a client, and may be any JSON.
_MAX_DEPTH = 48


def validate_calls(calls: Any) -> list[dict[str, Any]]:
    """Return the `tool_calls` of a message, with their arguments as JSON text.

    Raises MlflowException (HTTP 400) that names the first invalid value.
    """
    if not isinstance(calls, list):
        _reject(f"tool_calls={calls!r:.100}: give a list")
    return [_validate_call(call) for call in calls]


def parse_arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a validated call."""
    arguments: dict[str, Any] = json.loads(call["function"]["arguments"])
    return arguments


def _validate_call(call: Any) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or call.get("type", "function") != "function":
        _reject(f"{call!r:.100} in tool_calls: give an object with id, type and function")
    name, call_id = function.get("name"), call.get("id")
    if not isinstance(name, str):
        _reject(f"name={name!r:.100} in tool_calls: give text")
    if not isinstance(call_id, str | None):
        _reject(f"id={call_id!r:.100} in tool_calls: give text")
    arguments = {"name": name, "arguments": _validate_arguments(function.get("arguments"))}
    known_id = {} if call_id is None else {"id": call_id}
    return {**known_id, "type": "function", "function": arguments}


def _validate_arguments(arguments: Any) -> str:
    """Return arguments as JSON text. Clients send them as text; some as an object."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or find_json_problem(value, _MAX_DEPTH):
        _reject(f"arguments={arguments!r:.100} in tool_calls: give a JSON object, as text")
    return text or "{}"


def _reject(problem: str) -> NoReturn:
    reject(problem, param="messages")
