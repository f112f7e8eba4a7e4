"""Parse requests to /v1/responses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slmflow.serving.errors import RequestError, with_fields
from slmflow.serving.openai_requests import (
    CHAT_FIELDS,
    OpenAIRequest,
    parse_body,
    parse_chat_fields,
)
from slmflow.serving.responses_api.input_items import read_messages

_KEEPS_NONE = "this server keeps no responses: send the whole conversation as input"

# Options that are not supported: the values that ask for nothing, and what to do instead.
_UNSUPPORTED: dict[str, tuple[tuple[Any, ...], str]] = {
    "background": ((False,), "leave it out"),
    "context_management": (([],), "leave it out"),
    "conversation": ((), _KEEPS_NONE),
    "n": ((1,), "leave it out"),
    "previous_response_id": ((), _KEEPS_NONE),
    "prompt": ((), "send the text as input"),
    "store": ((False,), _KEEPS_NONE),
    "stream_options": (({}, {"include_obfuscation": False}), "leave it out"),
    "truncation": (("disabled",), "send less, or leave it out"),
}

# Options of /v1/chat/completions, by their names here.
_RENAMED = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "include",
}

# What only this API has.
_OWN = (
    "input",
    "instructions",
    "max_output_tokens",
    "text",
    "reasoning",
    "include",
    "max_tool_calls",
)

FIELDS = (
    *_OWN,
    *(name for name in CHAT_FIELDS if name not in _RENAMED and name not in _UNSUPPORTED),
)
"""All fields that a request may have here."""

# What a response may include. Only log-probabilities concern a model without tools of its own.
_LOGPROBS = "message.output_text.logprobs"
_INCLUDABLE_PREFIXES = (
    *("file_search_call.", "web_search_call.", "code_interpreter_call.", "computer_call_output."),
    *("message.input_image.", "reasoning.encrypted_content", _LOGPROBS),
)

# What a response repeats of its request, with the values for what it left out.
_REPEATED: dict[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": False,
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}


@dataclass(frozen=True)
class ResponsesRequest:
    """A parsed request.

    chat: the same request to /v1/chat/completions. repeated: the fields that its response repeats.
    summarizes: whether the response has its reasoning in place of a summary.
    """

    chat: OpenAIRequest
    repeated: dict[str, Any]
    summarizes: bool


def parse(body: bytes) -> ResponsesRequest:
    """Parse a body of /v1/responses. Raises RequestError."""
    fields = parse_body(body)
    _reject_unsupported(fields)
    text, reasoning = _read_object(fields, "text"), _read_object(fields, "reasoning")
    form = text.get("format") or {"type": "text"}
    repeated = {
        **{name: fields.get(name, value) for name, value in _REPEATED.items()},
        "text": {**text, "format": form},
        "reasoning": {"effort": None, "summary": None, **reasoning},
    }
    messages = read_messages(fields.pop("input", None), _read_instructions(fields))
    options = {**_rename(fields), **_text_options(text, form), "messages": messages}
    if (effort := reasoning.get("effort")) is not None:
        options["reasoning_effort"] = effort
    summarizes = bool(reasoning.get("summary") or reasoning.get("generate_summary"))
    try:
        chat = parse_chat_fields(options)
    except RequestError as error:
        raise with_own_names(error) from error
    return ResponsesRequest(chat, repeated, summarizes)


def with_own_names(error: RequestError) -> RequestError:
    """Return an error that names its field as this API does."""
    error = with_fields(error, FIELDS)
    param = _RENAMED.get(error.param or "", error.param)
    return RequestError(str(error), error.status, param, error.code, error.retry_after_s)


def _reject_unsupported(fields: Mapping[str, Any]) -> None:
    for name in fields.keys() & _RENAMED.keys():
        raise RequestError(
            f"{name} is not an option of /v1/responses: use {_RENAMED[name]}", param=name
        )
    for name in fields.keys() & _UNSUPPORTED.keys():
        neutral, fix = _UNSUPPORTED[name]
        if (value := fields[name]) not in neutral:
            raise RequestError(f"{name}={value!r:.200} is not supported: {fix}", param=name)


def _rename(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as /v1/chat/completions names them."""
    handled = _UNSUPPORTED.keys() | {"include", "max_output_tokens", "max_tool_calls"}
    options = {name: value for name, value in fields.items() if name not in handled}
    if "max_output_tokens" in fields:
        options["max_tokens"] = _read_limit(fields["max_output_tokens"])
    if "tools" in fields:
        options["tools"] = _nest_tools(fields["tools"])
    if _LOGPROBS in _read_include(fields.get("include", [])) or fields.get("top_logprobs"):
        options["logprobs"] = True
    return options


def _text_options(text: Mapping[str, Any], form: Any) -> dict[str, Any]:
    """Return the options in `text`: the form of the answer, and how long it shall be."""
    options = {"verbosity": text["verbosity"]} if text.get("verbosity") else {}
    kind = form.get("type") if isinstance(form, Mapping) else None
    if kind == "json_schema":
        schema = {name: value for name, value in form.items() if name != "type"}
        return {**options, "response_format": {"type": kind, "json_schema": schema}}
    if kind == "json_object":
        return {**options, "response_format": {"type": kind}}
    if kind != "text":
        raise RequestError(
            f"text.format={form!r:.200}: must be {{'type': 'text'}}, {{'type': 'json_object'}} or "
            "{'type': 'json_schema', 'name': '...', 'schema': {...}}",
            param="text.format",
        )
    return options


def _nest_tools(tools: Any) -> Any:
    """Return the tools with what describes each function in an object of its own."""
    if not isinstance(tools, list):
        return tools
    return [_nest_tool(tool) for tool in tools]


def _nest_tool(tool: Any) -> Any:
    if not isinstance(tool, Mapping) or tool.get("type") != "function" or "function" in tool:
        return tool
    function = {name: value for name, value in tool.items() if name != "type" and value is not None}
    return {"type": "function", "function": function}


def _read_object(fields: dict[str, Any], name: str) -> dict[str, Any]:
    value = fields.pop(name, {})
    if not isinstance(value, dict):
        raise RequestError(f"{name}={value!r:.200}: must be an object", param=name)
    return value


def _read_instructions(fields: dict[str, Any]) -> str | None:
    value = fields.pop("instructions", None)
    if not isinstance(value, str | None):
        raise RequestError(f"instructions={value!r:.200}: must be text", param="instructions")
    return value


def _read_limit(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RequestError(
            f"max_output_tokens={value!r:.200}: must be a whole number, at least 1",
            param="max_output_tokens",
        )
    return value


def _read_include(include: Any) -> list[str]:
    if not isinstance(include, list):
        raise RequestError(f"include={include!r:.200}: must be a list", param="include")
    for name in include:
        if not isinstance(name, str) or not name.startswith(_INCLUDABLE_PREFIXES):
            raise RequestError(f"include: {name!r:.200} is not supported", param="include")
    return include
