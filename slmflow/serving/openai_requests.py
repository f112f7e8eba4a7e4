"""OpenAI's requests to those of the model: renamed, unwrapped, or refused by name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slmflow.serving.errors import Refusal

# What tells the provider something about the caller, and nothing about the answer.
_ABOUT_THE_CALLER = ("user", "metadata", "safety_identifier", "prompt_cache_key")

# What only /v1/completions has, with the values that ask nothing.
_COMPLETION_NEUTRAL = {"best_of": (1,), "echo": (False,), "suffix": ("",)}

# No conversation is nested, and few schemas are so deep. What is far deeper ends a recursion, here,
# in the model's process or in the runtime's own code.
_MOST_DEPTH = 64


@dataclass(frozen=True)
class Asked:
    """A request.

    fields: what the model is asked; text: what it shall go on with, None for a chat; stream,
    include_usage: how to answer; model: the name of the one asked.
    """

    fields: dict[str, Any]
    text: str | None = None
    stream: bool = False
    include_usage: bool = False
    model: str | None = None

    @property
    def given(self) -> dict[str, Any]:
        """All that the answer is made of."""
        return self.fields if self.text is None else {"prompt": self.text, **self.fields}


def parse(body: bytes) -> dict[str, Any]:
    """Return the object that a body is, without fields that are null. Raises Refusal."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(f"the body is not JSON: {error}") from error
    if _depth_above(_MOST_DEPTH, given):
        raise Refusal(f"the body is nested more than {_MOST_DEPTH} deep: send it flatter")
    try:
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Refusal(r"the body has half a character, such as \ud800 alone") from error
    if not isinstance(given, dict):
        raise Refusal("the body is not a JSON object")
    return {name: value for name, value in given.items() if value is not None}


def _depth_above(most: int, value: Any) -> bool:
    """Return whether lists and objects are nested deeper than this; it takes no stack."""
    level = [value]
    for _ in range(most + 1):
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


def chat(body: bytes) -> Asked:
    """Return what a body of /v1/chat/completions asks. Raises Refusal."""
    given = parse(body)
    if "max_completion_tokens" in given:
        if "max_tokens" in given:
            raise Refusal(
                "max_tokens and max_completion_tokens are two names of one option: give one",
                param="max_tokens",
            )
        given["max_tokens"] = given.pop("max_completion_tokens")
    if isinstance(given.get("messages"), list):
        given["messages"] = [_message(message) for message in given["messages"]]
    return _asked(given)


def completion(body: bytes) -> Asked:
    """Return what a body of /v1/completions asks. Raises Refusal."""
    given = parse(body)
    prompt = given.pop("prompt", None)
    if isinstance(prompt, list) and len(prompt) == 1:
        [prompt] = prompt
    if not isinstance(prompt, str):
        raise Refusal("prompt: give one text", param="prompt")
    for name, neutral in _COMPLETION_NEUTRAL.items():
        if (value := given.pop(name, neutral[0])) not in neutral:
            raise Refusal(f"{name}={value!r} is not supported: leave it out", param=name)
    return _asked(given, text=prompt)


def _asked(given: dict[str, Any], text: str | None = None) -> Asked:
    for name in _ABOUT_THE_CALLER:
        given.pop(name, None)
    if given.pop("store", False) is not False:
        raise Refusal("store=True is not supported: leave it out", param="store")
    stream = given.pop("stream", False)
    if not isinstance(stream, bool):
        raise Refusal(f"stream={stream!r}: must be true or false", param="stream")
    model = given.pop("model", None)
    if model is not None and not isinstance(model, str):
        raise Refusal(f"model={model!r}: must be a text", param="model")
    return Asked(
        fields=given,
        stream=stream,
        include_usage=_include_usage(given.pop("stream_options", {}), stream),
        model=model,
        text=text,
    )


def _include_usage(options: Any, stream: bool) -> bool:
    if options and not stream:
        raise Refusal("stream_options goes with stream=true only", param="stream_options")
    if not isinstance(options, Mapping) or (unknown := options.keys() - {"include_usage"}):
        named = f"{sorted(unknown)[0]} in it" if isinstance(options, Mapping) else repr(options)
        raise Refusal(
            f"stream_options: {named} is not supported: give include_usage",
            param="stream_options",
        )
    include = options.get("include_usage", False)
    if not isinstance(include, bool):
        raise Refusal(
            f"include_usage={include!r} in stream_options: must be true or false",
            param="stream_options",
        )
    return include


def _message(message: Any) -> Any:
    """Return a message as the model takes it: text in one piece, by a role it knows."""
    if not isinstance(message, dict):
        return message
    message = dict(message)
    if message.get("role") == "developer":  # OpenAI's newer word for it
        message["role"] = "system"
    parts = message.get("content")
    if isinstance(parts, list):
        if not all(_is_text(part) for part in parts):
            raise Refusal(
                "messages: give text as content, this model sees nothing else", param="messages"
            )
        message["content"] = "".join(part["text"] for part in parts)
    return message


def _is_text(part: Any) -> bool:
    return (
        isinstance(part, dict)
        and part.get("type") == "text"
        and isinstance(part.get("text"), str)
        and part.keys() == {"type", "text"}
    )
