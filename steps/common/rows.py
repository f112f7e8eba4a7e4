"""The rows both flavors answer: conversations that end with a question, and the right answers.

A row of the data has an answer, and either a question or messages, `{"role": ..., "content": ...}`,
of which the last is the user's (as JSON where a cell holds text). What is sent is: a system
message, the row's own before that of the config; the examples, as earlier turns; the question, put
into the template, or the messages as they are.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steps.common import tables
from steps.common.config import Config
from steps.common.errors import UserError
from steps.common.paths import PROJECT
from steps.common.schema.evaluation import QUESTION, Columns, EvaluationData
from steps.common.schema.generation import Interface
from steps.common.tables import shown

Message = dict[str, str]

_ROLES = ("system", "user", "assistant")
_MOST_LISTED = 100


@dataclass(frozen=True)
class Row:
    """A conversation as every flavor is sent it, and the answer a perfect model gives."""

    messages: list[Message]
    answer: str

    @property
    def question(self) -> str:
        """The last message, which is the user's."""
        return self.messages[-1]["content"]


def read(config: Config) -> list[Row]:
    """Return the first `evaluation.limit` rows of the data, or all.

    Raises UserError, with every bad row and its place in one message; rows beyond the limit are
    checked too. So it does where the GenAI model is to take prompts, and a row is more than one.
    """
    data = config.evaluation
    rows, problems = _parse(*_source(data), data)
    examples: list[Row] = []
    if data.examples is not None:
        file = PROJECT / data.examples
        examples, of_examples = _parse(file, str(file), data, as_examples=True)
        problems += of_examples
    if problems:
        raise UserError("\n".join(problems))
    turns = [message for row in examples for message in (*row.messages, _said(row.answer))]
    sent = [Row(_opened(row.messages, data.system, turns), row.answer) for row in rows]
    if config.log_genai.interface is Interface.prompt:
        _refuse_conversations(sent)
    return sent[: data.limit]


def digest(rows: Sequence[Row]) -> str:
    """Return the first 36 hexadecimal digits of the sha256 of all rows, as canonical JSON.

    36 characters are what MLflow's database has room for. Its own digest of a frame would be over
    at most 10,000 rows, and in 8 digits.
    """
    content = json.dumps([dataclasses.asdict(row) for row in rows], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:36]


def _source(data: EvaluationData) -> tuple[Path, str]:
    """Return the file of the rows, and its name in messages."""
    if data.dataset is None:
        file = PROJECT / str(data.data)
        return file, str(file)
    # Here, because the processes that are measured must not hold the hub's client in memory.
    from steps.common import hub_dataset

    return hub_dataset.bring(data.dataset), f"{data.dataset.file} of {data.dataset.id}"


def _parse(
    file: Path, name: str, data: EvaluationData, *, as_examples: bool = False
) -> tuple[list[Row], list[str]]:
    """Return the rows of a file, and the lines of a message about those that are bad."""
    columns, rows, problems = data.columns, [], []
    for record in tables.read(file, columns):
        fields = _decoded(record.fields, columns)
        found = [record.problem] if record.problem else list(_problems(fields, columns))
        if not found:
            row = Row(_asked(fields, data), fields[columns.answer])
            if as_examples and row.messages[0]["role"] == "system":
                found = ["an example has no system message: set evaluation.system"]
            rows.append(row)
        problems += [f"{record.place}: {problem}" for problem in found]
    if problems:
        asked = f"either {columns.question} or {columns.messages}"
        return [], [
            f"{name}: a row has {columns.answer}, and {asked}",
            *problems[:_MOST_LISTED],
            *([f"and {len(problems) - _MOST_LISTED} more"] if problems[_MOST_LISTED:] else ()),
        ]
    return rows, [] if rows else [f"{name} has no rows: give at least one question and its answer"]


def _decoded(fields: dict[str, Any], columns: Columns) -> dict[str, Any]:
    """Return the fields, with messages that are written as JSON in a text read."""
    written = fields.get(columns.messages)
    if not isinstance(written, str):
        return fields
    try:
        return {**fields, columns.messages: json.loads(written)}
    except (ValueError, RecursionError):
        return fields


def _problems(fields: dict[str, Any], columns: Columns) -> Iterator[str]:
    question, messages = columns.question in fields, columns.messages in fields
    if question and messages:
        yield f"both {columns.question} and {columns.messages}: give one of them"
    elif question:
        yield from _text_problems(columns.question, fields[columns.question])
    elif messages:
        yield from _messages_problems(columns.messages, fields[columns.messages])
    else:
        yield f"no {columns.question} and no {columns.messages}"
    if columns.answer in fields:
        yield from _text_problems(columns.answer, fields[columns.answer])
    else:
        yield f"no {columns.answer}"


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
    yield from _text_problems(f"{name}: content", message.get("content"))
    further = [key for key, value in message.items() if value is not None]
    for key in sorted(set(further) - {"role", "content"}):
        yield f"{name}: {shown(key)} is not sent: give role and content only"


def _text_problems(name: str, value: Any) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{name} is not text but {shown(value)}"
    elif not value.strip():
        yield f"{name} is blank"
    elif value.encode(errors="replace").decode() != value:
        yield f"{name} has half a character (a lone surrogate), which no tokenizer takes"


def _asked(fields: dict[str, Any], data: EvaluationData) -> list[Message]:
    """Return the messages of a row, before anything is put in front of them."""
    if data.columns.messages in fields:
        given = fields[data.columns.messages]
        return [{"role": each["role"], "content": each["content"]} for each in given]
    question: str = fields[data.columns.question]
    if data.template is not None:
        question = data.template.replace(QUESTION, question)
    return [{"role": "user", "content": question}]


def _opened(
    messages: list[Message], system: str | None, examples: Sequence[Message]
) -> list[Message]:
    """Return a conversation with its system message and the examples in front."""
    if messages[0]["role"] == "system":
        return [messages[0], *examples, *messages[1:]]
    opening = [{"role": "system", "content": system}] if system is not None else []
    return [*opening, *examples, *messages]


def _said(answer: str) -> Message:
    return {"role": "assistant", "content": answer}


def _refuse_conversations(rows: Sequence[Row]) -> None:
    if longer := sum(len(row.messages) > 1 for row in rows):
        raise UserError(
            f"log_genai.interface=prompt takes one user message, but {longer} of {len(rows)} rows "
            "are conversations of several: set log_genai.interface=chat, or leave out "
            "evaluation.system, evaluation.examples and rows with messages"
        )
