"""The rows both flavors answer: conversations that end with a question, and the right answers.

A row of the data has an answer, and either a question or messages, `{"role": ..., "content": ...}`,
of which the last is the user's (as JSON where a cell holds text). What is sent is: a system
message, the row's own before that of the config; the examples, as earlier turns; the question, put
into the template, or the messages as they are. A row may have choices, of which its answer is one,
and then a subject: the choices are sent after the question (`choices.asked`).
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmflow.config.compose import Config
from slmflow.config.schema.evaluation import CHOICES, QUESTION, Columns, EvaluationData
from slmflow.config.schema.generation import Interface
from slmflow.datasets import multiple_choice as choices
from slmflow.datasets import readers, row_checks
from slmflow.errors import UserError
from slmflow.paths import PROJECT

Message = dict[str, str]

DIGEST_CHARACTERS = 36
"""What MLflow's database has room for."""

_MOST_LISTED = 100


@dataclass(frozen=True)
class Row:
    """A conversation as every flavor is sent it, and the answer a perfect model gives.

    Where there are choices, the answer is the letter of one.
    """

    messages: list[Message]
    answer: str
    choices: list[str] | None = None
    subject: str | None = None

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
    sent = [
        dataclasses.replace(row, messages=_opened(row.messages, data.system, turns)) for row in rows
    ]
    if config.log_genai.interface is Interface.prompt:
        _refuse_conversations(sent)
    return sent[: data.limit]


def digest(rows: Sequence[Row]) -> str:
    """Return the first hexadecimal digits of the sha256 of all rows, as canonical JSON.

    MLflow's own digest of a frame would be over at most 10,000 rows, and in 8 digits.
    """
    asked = [
        {name: value for name, value in dataclasses.asdict(row).items() if value is not None}
        for row in rows
    ]
    content = json.dumps(asked, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:DIGEST_CHARACTERS]


def _source(data: EvaluationData) -> tuple[Path, str]:
    """Return the file of the rows, and its name in messages."""
    if data.dataset is None:
        file = PROJECT / str(data.data)
        return file, str(file)
    # Here, because the processes that are measured must not hold the hub's client in memory.
    from slmflow.hub import dataset_files

    return dataset_files.bring(data.dataset), f"{data.dataset.file} of {data.dataset.id}"


def _parse(
    file: Path, name: str, data: EvaluationData, *, as_examples: bool = False
) -> tuple[list[Row], list[str]]:
    """Return the rows of a file, and the lines of a message about those that are bad."""
    columns, placed, problems = data.columns, [], []
    for record in readers.read(file, columns):
        given = row_checks.decoded(record.fields, columns.messages, columns.choices)
        found = [record.problem] if record.problem else list(_problems(given, data))
        if not found:
            row = _row(given, data)
            if as_examples and row.messages[0]["role"] == "system":
                found = ["an example has no system message: set evaluation.system"]
            placed.append((record.place, row))
        problems += [f"{record.place}: {problem}" for problem in found]
    if not (problems or as_examples):
        problems += _mixed(placed, columns)
    if problems:
        asked = f"either {columns.question} or {columns.messages}"
        return [], [
            f"{name}: a row has {columns.answer}, and {asked}",
            *problems[:_MOST_LISTED],
            *([f"and {len(problems) - _MOST_LISTED} more"] if problems[_MOST_LISTED:] else ()),
        ]
    rows = [row for _, row in placed]
    return rows, [] if rows else [f"{name} has no rows: give at least one question and its answer"]


def _problems(given: dict[str, Any], data: EvaluationData) -> Iterator[str]:
    columns = data.columns
    yield from row_checks.question_problems(given, columns)
    answer = given.get(columns.answer)
    if answer is None:
        yield f"no {columns.answer}"
    if columns.choices in given:
        yield from choices.problems(columns.choices, given[columns.choices], columns.answer, answer)
        if columns.subject in given:
            yield from row_checks.text_problems(columns.subject, given[columns.subject])
        return
    if answer is not None:
        yield from row_checks.text_problems(columns.answer, answer)
    if columns.question in given and CHOICES in (data.template or ""):
        yield f"no {columns.choices}, but evaluation.template has {CHOICES}"


def _row(given: dict[str, Any], data: EvaluationData) -> Row:
    columns, answer = data.columns, given[data.columns.answer]
    if (among := given.get(columns.choices)) is None:
        return Row(_asked(given, data), answer)
    subject = given.get(columns.subject)
    return Row(_asked(given, data), choices.right(answer, among), among, subject)


def _mixed(placed: Sequence[tuple[str, Row]], columns: Columns) -> Iterator[str]:
    """Yield what only some rows have: a figure would be of other rows than the ones beside it."""
    for name, column in (("choices", columns.choices), ("subject", columns.subject)):
        lacking = [place for place, row in placed if getattr(row, name) is None]
        if 0 < len(lacking) < len(placed):
            yield (
                f"{lacking[0]}: no {column}, but {len(placed) - len(lacking)} of {len(placed)} "
                f"rows have {column}: give it to all, or to none, and evaluate the others apart"
            )


def _asked(given: dict[str, Any], data: EvaluationData) -> list[Message]:
    """Return the messages of a row, before anything is put in front of them."""
    columns, among = data.columns, given.get(data.columns.choices)
    if columns.messages not in given:
        text = choices.asked(given[columns.question], among, data.template or QUESTION)
        return [{"role": "user", "content": text}]
    *earlier, last = (
        {"role": each["role"], "content": each["content"]} for each in given[columns.messages]
    )
    return [*earlier, last | {"content": choices.asked(last["content"], among)}]


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
