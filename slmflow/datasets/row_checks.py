"""What the fields of a row must be, and what is wrong where they are not."""

import json
from collections.abc import Iterator
from typing import Any, Protocol

from slmflow.datasets.readers import shown

_ROLES = ("system", "user", "assistant")

# Far more than the longest context holds: a row of this size is no question.
_MOST_CHARACTERS = 2_000_000


class Asked(Protocol):
    """Names of the columns that hold what is asked."""

    question: str
    messages: str


def decoded(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the fields, with those of these names that are written as JSON in a text read."""
    return fields | {name: _from_json(fields[name]) for name in names if name in fields}


def question_problems(fields: dict[str, Any], columns: Asked) -> Iterator[str]:
    """Yield what is wrong with the question, or the messages that end with one."""
    question, messages = columns.question in fields, columns.messages in fields
    if question and messages:
        yield f"both {columns.question} and {columns.messages}: give one of them"
    elif question:
        yield from text_problems(columns.question, fields[columns.question])
    elif messages:
        yield from _messages_problems(columns.messages, fields[columns.messages])
    else:
        yield f"no {columns.question} and no {columns.messages}"


def text_problems(name: str, value: Any) -> Iterator[str]:
    """Yield what is wrong with a text that a model is to take."""
    if not isinstance(value, str):
        yield f"{name} is not text but {shown(value)}"
    elif len(value) > _MOST_CHARACTERS:
        yield f"{name} has {len(value):,} characters, more than {_MOST_CHARACTERS:,}: cut it"
    elif not value.strip():
        yield f"{name} is blank"
    elif value.encode(errors="replace").decode() != value:
        yield f"{name} has half a character (a lone surrogate), which no tokenizer takes"


def _from_json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _messages_problems(name: str, messages: Any) -> Iterator[str]:
    if not isinstance(messages, list) or not messages:
        yield f"{name} is not a list of messages but {shown(messages)}"
        return
    for number, message in enumerate(messages, start=1):
        yield from _message_problems(f"{name}, message {number}", message, first=number == 1)
    if isinstance(messages[-1], dict) and messages[-1].get("role") in ("system", "assistant"):
        yield f"{name}: the last message is not the user's but of the {messages[-1]['role']}"


def _message_problems(name: str, message: Any, *, first: bool) -> Iterator[str]:
    if not isinstance(message, dict):
        yield f"{name} is not an object but {shown(message)}"
        return
    role = message.get("role")
    if role not in _ROLES:
        yield f"{name}: role is not one of {', '.join(_ROLES)} but {shown(role)}"
    if role == "system" and not first:
        yield f"{name}: the system's message must be the first"
    yield from text_problems(f"{name}: content", message.get("content"))
    further = [key for key, value in message.items() if value is not None]
    for key in sorted(set(further) - {"role", "content"}):
        yield f"{name}: {shown(key)} is not sent: give role and content only"
