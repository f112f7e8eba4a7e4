"""Parse OpenAI's requests into those of the model: renamed, unwrapped, or rejected by name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slmflow.serving.errors import RequestError

# Fields about the caller, which do not affect the completion.
_CALLER_FIELDS = ("user", "metadata", "safety_identifier", "prompt_cache_key")

# Options of /v1/completions only that are not supported, with the values that have no effect.
_UNSUPPORTED_COMPLETION_OPTIONS = {"best_of": (1,), "echo": (False,), "suffix": ("",)}

# No conversation is nested, and few schemas are this deep. Much deeper values overflow the stack
# here, in the model's process or in the runtime's native code.
_MAX_DEPTH = 64


@dataclass(frozen=True)
class OpenAIRequest:
    """A parsed request.

    body: `messages` or `prompt`, and options for the model. is_chat: whether it has messages.
    stream, include_usage: how to respond. model: the requested model's name.
    """

    body: dict[str, Any]
    is_chat: bool
    stream: bool = False
    include_usage: bool = False
    model: str | None = None


def parse_body(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body, without null fields. Raises RequestError."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON: {error}") from error
    if _is_deeper(value, _MAX_DEPTH):
        raise RequestError(f"the body is nested more than {_MAX_DEPTH} levels deep")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise RequestError(r"the body has half a character, such as a lone \ud800") from error
    if not isinstance(value, dict):
        raise RequestError("the body is not a JSON object")
    return {name: field for name, field in value.items() if field is not None}


def parse_chat(body: bytes) -> OpenAIRequest:
    """Parse a body of /v1/chat/completions. Raises RequestError."""
    fields = parse_body(body)
    if "max_completion_tokens" in fields:
        if "max_tokens" in fields:
            raise RequestError(
                "max_tokens and max_completion_tokens are the same option: give one of them",
                param="max_tokens",
            )
        fields["max_tokens"] = fields.pop("max_completion_tokens")
    if isinstance(fields.get("messages"), list):
        fields["messages"] = [_parse_message(message) for message in fields["messages"]]
    return _parse_fields(fields, is_chat=True)


def parse_completion(body: bytes) -> OpenAIRequest:
    """Parse a body of /v1/completions. Raises RequestError."""
    fields = parse_body(body)
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        [prompt] = prompt
    if not isinstance(prompt, str):
        raise RequestError("prompt: give one text", param="prompt")
    for name, accepted in _UNSUPPORTED_COMPLETION_OPTIONS.items():
        if (value := fields.pop(name, accepted[0])) not in accepted:
            raise RequestError(f"{name}={value!r} is not supported: leave it out", param=name)
    return _parse_fields({**fields, "prompt": prompt}, is_chat=False)


def _is_deeper(value: Any, depth: int) -> bool:
    """Return whether lists and objects are nested deeper than `depth`, without recursion."""
    level = [value]
    for _ in range(depth + 1):
        nested: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                nested.extend(each.values())
            elif isinstance(each, list):
                nested.extend(each)
        if not nested:
            return False
        level = nested
    return True


def _parse_fields(fields: dict[str, Any], is_chat: bool) -> OpenAIRequest:
    for name in _CALLER_FIELDS:
        fields.pop(name, None)
    if fields.pop("store", False) is not False:
        raise RequestError("store=True is not supported: leave it out", param="store")
    stream = fields.pop("stream", False)
    if not isinstance(stream, bool):
        raise RequestError(f"stream={stream!r}: must be true or false", param="stream")
    model = fields.pop("model", None)
    if model is not None and not isinstance(model, str):
        raise RequestError(f"model={model!r}: must be a text", param="model")
    include_usage = _parse_include_usage(fields.pop("stream_options", {}), stream)
    return OpenAIRequest(fields, is_chat, stream, include_usage, model)


def _parse_include_usage(options: Any, stream: bool) -> bool:
    if options and not stream:
        raise RequestError("stream_options requires stream=true", param="stream_options")
    if not isinstance(options, Mapping) or (unknown := options.keys() - {"include_usage"}):
        invalid = f"{sorted(unknown)[0]} in it" if isinstance(options, Mapping) else repr(options)
        raise RequestError(
            f"stream_options: {invalid} is not supported: use include_usage",
            param="stream_options",
        )
    include = options.get("include_usage", False)
    if not isinstance(include, bool):
        raise RequestError(
            f"include_usage={include!r} in stream_options: must be true or false",
            param="stream_options",
        )
    return include


def _parse_message(message: Any) -> Any:
    """Return a message as the model accepts it: one text, and a role that it knows."""
    if not isinstance(message, dict):
        return message
    message = dict(message)
    if message.get("role") == "developer":  # OpenAI's newer name of the role
        message["role"] = "system"
    parts = message.get("content")
    if isinstance(parts, list):
        if not all(_is_text_part(part) for part in parts):
            raise RequestError(
                "messages: give text as content, this model accepts nothing else", param="messages"
            )
        message["content"] = "".join(part["text"] for part in parts)
    return message


def _is_text_part(part: Any) -> bool:
    has_text = isinstance(part, dict) and part.keys() == {"type", "text"}
    return has_text and part["type"] == "text" and isinstance(part["text"], str)
