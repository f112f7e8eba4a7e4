"""Parse OpenAI's requests into those of the model: renamed, unwrapped, or rejected by name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from slmflow.runtime import request_fields
from slmflow.runtime.generation import repeats
from slmflow.runtime.generation.unsupported import UNSUPPORTED, is_neutral
from slmflow.runtime.prompts.message_fields import drop_neutral_fields
from slmflow.runtime.tools.declarations import FIELDS as TOOL_FIELDS
from slmflow.serving.errors import RequestError

# Fields about the caller and its account, which do not affect the completion.
_CALLER_FIELDS = (
    *("user", "metadata", "safety_identifier", "request_id"),
    *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "cache_salt"),
)

_SERVER_FIELDS = ("model", "stream", "stream_options", *_CALLER_FIELDS)
CHAT_FIELDS = (*request_fields.CHAT, *_SERVER_FIELDS)
COMPLETION_FIELDS = (*request_fields.COMPLETION, *_SERVER_FIELDS)
"""All fields that a request may have at each endpoint."""

# Other servers' value for no limit, and for no seed.
_NONE = -1
_MAY_BE_NONE = ("max_tokens", "max_completion_tokens", "seed")

# No conversation is nested, and few schemas are this deep. Much deeper values overflow the stack
# here, in the model's process or in the runtime's native code.
_MAX_DEPTH = 64


@dataclass(frozen=True)
class StreamOptions:
    """What a stream has beside the text.

    include_usage: a last chunk with the token counts; continuous_usage_stats: the counts so far in
    every chunk.
    """

    include_usage: bool = False
    continuous_usage_stats: bool = False


@dataclass(frozen=True)
class OpenAIRequest:
    """A parsed request.

    body: `messages` or `prompt`, and options for the model. is_chat: whether it has messages.
    stream, stream_options: how to respond. model: the requested model's name. prompts: those of a
    text completion. n: how many completions each has.
    """

    body: dict[str, Any]
    is_chat: bool
    stream: bool = False
    stream_options: StreamOptions = field(default_factory=StreamOptions)
    model: str | None = None
    prompts: Sequence[Any] = ()
    n: int = 1

    @cached_property
    def bodies(self) -> list[dict[str, Any]]:
        """The body of each completion: those of the first prompt, then of the next."""
        prompted = [{**self.body, "prompt": prompt} for prompt in self.prompts] or [self.body]
        return [each for body in prompted for each in repeats.repeat({**body, "n": self.n})]


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
    return parse_chat_fields(parse_body(body))


def parse_chat_fields(fields: dict[str, Any]) -> OpenAIRequest:
    """Parse the fields of such a body. Raises RequestError."""
    if isinstance(fields.get("messages"), list):
        fields["messages"] = [_parse_message(message) for message in fields["messages"]]
    return _parse_fields(fields, is_chat=True)


def parse_completion(body: bytes) -> OpenAIRequest:
    """Parse a body of /v1/completions. Raises RequestError."""
    fields = parse_body(body)
    prompts = _parse_prompts(fields.get("prompt"))
    if fields.get("best_of") == fields.get("n", 1):
        fields.pop("best_of", None)
    echo = {"echo": fields.pop("echo")} if "echo" in fields else {}
    parsed = _parse_fields(fields, is_chat=False)
    return replace(parsed, body={**parsed.body, **echo}, prompts=prompts)


def _parse_prompts(prompt: Any) -> list[Any]:
    """Return the prompts: texts, or lists of token ids, whose values the model checks."""
    if isinstance(prompt, str) or (isinstance(prompt, list) and _is_ids(prompt)):
        return [prompt]
    if isinstance(prompt, list) and (
        all(isinstance(each, str) for each in prompt)
        or all(isinstance(each, list) and _is_ids(each) for each in prompt)
    ):
        return prompt
    raise RequestError(
        "prompt: give a text, a list of texts, a list of token ids, or a list of such lists",
        param="prompt",
    )


def _is_ids(values: list[Any]) -> bool:
    return bool(values) and all(type(each) is int for each in values)


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
    stream = fields.pop("stream", False)
    if not isinstance(stream, bool):
        raise RequestError(f"stream={stream!r}: must be true or false", param="stream")
    model = fields.pop("model", None)
    if model is not None and not isinstance(model, str):
        raise RequestError(f"model={model!r}: must be a text", param="model")
    options = _parse_stream_options(fields.pop("stream_options", {}), stream)
    n = fields.pop("n", 1)
    if problem := repeats.find_problem(n):
        raise RequestError(problem, param="n")
    return OpenAIRequest(_parse_options(fields), is_chat, stream, options, model, n=n)


def _parse_options(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options for the model. Raises RequestError for one that is not supported."""
    options = {name: value for name, value in fields.items() if name not in _CALLER_FIELDS}
    if options.get("tool_choice") == "none":
        options.pop("tools", None)
    if options.get("function_call") == "none":
        options.pop("functions", None)
    for name in _MAY_BE_NONE:
        if options.get(name) == _NONE:
            del options[name]
    # Whether a model can be told to think more or less, or has tools, only the model knows.
    for name in options.keys() & UNSUPPORTED.keys() - {"reasoning_effort", *TOOL_FIELDS}:
        if not is_neutral(name, value := options.pop(name)):
            raise RequestError(f"{name}={value!r:.200} is not supported: leave it out", param=name)
    return options


def _parse_stream_options(options: Any, stream: bool) -> StreamOptions:
    if not isinstance(options, Mapping):
        raise RequestError(f"stream_options={options!r}: must be an object", param="stream_options")
    given = {name: value for name, value in options.items() if value not in (None, False)}
    for name, value in given.items():
        if name not in ("include_usage", "continuous_usage_stats"):
            raise RequestError(
                f"stream_options: {name}={value!r:.200} in it is not supported: use include_usage "
                "or continuous_usage_stats",
                param="stream_options",
            )
        if value is not True:
            raise RequestError(
                f"{name}={value!r:.200} in stream_options: must be true or false",
                param="stream_options",
            )
    if given and not stream:
        raise RequestError("stream_options requires stream=true", param="stream_options")
    return StreamOptions(**given)


def _parse_message(message: Any) -> Any:
    """Return a message as the model accepts it: one text, and a role that it knows."""
    if not isinstance(message, dict):
        return message
    message = drop_neutral_fields(message)
    if message.get("role") == "developer":  # OpenAI's newer name of the role
        message["role"] = "system"
    parts = message.get("content")
    if isinstance(parts, list):
        message["content"] = "".join(_parse_part(part) for part in parts)
    return message


def _parse_part(part: Any) -> str:
    """Return the text of a part of a message's content."""
    fields = drop_neutral_fields(part) if isinstance(part, dict) else {}
    # A refusal is the text of an assistant that refused.
    kind = "refusal" if "refusal" in fields else "text"
    text = fields.pop(kind, None)
    if fields.pop("type", kind) != kind or fields or not isinstance(text, str):
        raise RequestError(
            f"messages: {part!r:.200} in content is no text, and this model accepts nothing else",
            param="messages",
        )
    return text
