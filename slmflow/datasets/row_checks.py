"""Validate the columns of a table and the fields of a row."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from slmflow.config.schema.evaluation import Columns
from slmflow.datasets.readers import short_repr

_ROLES = ("system", "user", "assistant")

_MAX_LISTED_PROBLEMS = 100

# Far more than the longest context: such a row is not a question.
_MAX_CHARACTERS = 2_000_000


class QuestionColumns(Protocol):
    """Names of the columns with the question."""

    question: str
    messages: str


def header_problem(names: Sequence[str], columns: Columns) -> str | None:
    """Return the problem with the column names of an evaluation table, or None.

    Messages may end with the answer, which then needs no column.
    """
    missing = []
    if columns.answer not in names and columns.messages not in names:
        missing.append((columns.answer, "evaluation.columns.answer"))
    if columns.question not in names and columns.messages not in names:
        either = f"{columns.question} or {columns.messages}"
        missing.append((either, "evaluation.columns.question or .messages"))
    if missing:
        listed = " and no column ".join(column for column, _ in missing)
        keys = " and ".join(key for _, key in missing)
        return f"no column {listed}, but {', '.join(names)}: name yours with {keys}"
    if duplicates := sorted(name for name in columns.names if names.count(name) > 1):
        return f"two columns are named {' and '.join(duplicates)}: rename one"
    return None


def list_first(problems: Sequence[str]) -> list[str]:
    """Return the first 100 problems, and how many more there are."""
    more = len(problems) - _MAX_LISTED_PROBLEMS
    return [*problems[:_MAX_LISTED_PROBLEMS], *([f"and {more} more"] if more > 0 else [])]


def decode_json_fields(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the fields, with the named ones parsed if they are JSON in a string."""
    return fields | {name: parse_json(fields[name]) for name in names if name in fields}


def question_problems(
    fields: dict[str, Any], columns: QuestionColumns, *, may_end_with_answer: bool = False
) -> Iterator[str]:
    """Yield the problems of a row's question or messages.

    may_end_with_answer: whether the last message may be the assistant's.
    """
    has_question, has_messages = columns.question in fields, columns.messages in fields
    if has_question and has_messages:
        yield f"both {columns.question} and {columns.messages}: give one of them"
    elif has_question:
        yield from text_problems(columns.question, fields[columns.question])
    elif has_messages:
        messages = fields[columns.messages]
        yield from _messages_problems(columns.messages, messages, may_end_with_answer)
    else:
        yield f"no {columns.question} and no {columns.messages}"


def build_messages(fields: dict[str, Any], columns: QuestionColumns) -> list[dict[str, str]]:
    """Return the chat messages of a row whose question or messages are valid."""
    if columns.question in fields:
        return [{"role": "user", "content": fields[columns.question]}]
    return [{"role": each["role"], "content": each["content"]} for each in fields[columns.messages]]


def text_problems(name: str, value: Any) -> Iterator[str]:
    """Yield the problems of a value that must be text for a model."""
    if not isinstance(value, str):
        yield f"{name} must be text, not {short_repr(value)}"
    elif len(value) > _MAX_CHARACTERS:
        yield f"{name} has {len(value):,} characters, more than {_MAX_CHARACTERS:,}: shorten it"
    elif not value.strip():
        yield f"{name} is blank"
    elif value.encode(errors="replace").decode() != value:
        yield f"{name} has half a character (a lone surrogate), which no tokenizer accepts"


def parse_json(value: Any) -> Any:
    """Return the value of JSON in a string; any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def ends_with_answer(messages: Any) -> bool:
    """Return whether the last of a row's messages is the assistant's."""
    return isinstance(messages, list) and bool(messages) and _role(messages[-1]) == "assistant"


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _messages_problems(name: str, messages: Any, may_end_with_answer: bool) -> Iterator[str]:
    if not isinstance(messages, list) or not messages:
        yield f"{name} must be a list of messages, not {short_repr(messages)}"
        return
    for number, message in enumerate(messages, start=1):
        yield from _message_problems(f"{name}, message {number}", message, is_first=number == 1)
    if may_end_with_answer and ends_with_answer(messages):
        which, sent = "message before the answer", messages[:-1]
    else:
        which, sent = "last message", messages
    if not sent:
        yield f"{name} must have a message of the user before the answer"
    elif (role := _role(sent[-1])) in ("system", "assistant"):
        yield f"{name}: the {which} must have the role user, not {role}"


def _message_problems(name: str, message: Any, *, is_first: bool) -> Iterator[str]:
    if not isinstance(message, dict):
        yield f"{name} must be an object, not {short_repr(message)}"
        return
    role = message.get("role")
    if role not in _ROLES:
        yield f"{name}: role must be one of {', '.join(_ROLES)}, not {short_repr(role)}"
    if role == "system" and not is_first:
        yield f"{name}: a system message must be the first"
    yield from text_problems(f"{name}: content", message.get("content"))
    keys = [key for key, value in message.items() if value is not None]
    for key in sorted(set(keys) - {"role", "content"}):
        yield f"{name}: {short_repr(key)} is not supported: give role and content only"
