"""Evaluation rows: conversations that end with a question, and their expected answers.

A row of a data file has an expected answer, or several accepted ones (`expected_answers`), and
either a question or messages: a list of `{"role": ..., "content": ...}`, as JSON in a text cell,
that ends with a user message, or with the assistant's, which is the expected answer and not sent. A
row may also have choices, one of which is the expected answer, and then a subject.

The model is sent a system message (the row's own or that of the config), the examples as earlier
turns, and the question, filled into the template, or the messages. Choices follow the question
(`multiple_choice.build_prompt`).
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from slmflow.config.schema.config import Config
from slmflow.config.schema.evaluation import CHOICES, QUESTION, Columns, EvaluationData
from slmflow.config.schema.generation import Interface
from slmflow.datasets import expected_answers, multiple_choice, readers, row_checks
from slmflow.errors import UserError
from slmflow.paths import PROJECT

Message = dict[str, str]

DIGEST_LENGTH = 36
"""The maximum that MLflow's database accepts."""


@dataclass(frozen=True)
class Row:
    """A conversation to send to a model, and the expected answer: a letter if there are choices.

    other_answers: further accepted answers, if there are any; location: where the row is in its
    file, e.g. "line 3"; plain_question: the question without template and choices.
    """

    messages: list[Message]
    answer: str
    choices: list[str] | None = None
    subject: str | None = None
    other_answers: list[str] | None = None
    location: str = dataclasses.field(default="", compare=False)
    plain_question: str = dataclasses.field(default="", compare=False)

    @property
    def question(self) -> str:
        """The content of the last message, which is the user's."""
        return self.messages[-1]["content"]

    @property
    def accepted_answers(self) -> list[str]:
        """All accepted answers, the expected one first."""
        return [self.answer, *(self.other_answers or ())]


def read(config: Config) -> list[Row]:
    """Return the first `evaluation.limit` rows of the data, or all.

    Raises UserError with the locations of all invalid rows, including those beyond the limit, and
    for conversations of several messages if the GenAI model takes prompts.
    """
    data = config.evaluation
    rows, problems = parse_file(*_locate_file(data), data)
    examples: list[Row] = []
    if data.examples is not None:
        file = PROJECT / data.examples
        examples, example_problems = parse_file(file, str(file), data, as_examples=True)
        problems += example_problems
    if problems:
        raise UserError("\n".join(problems))
    turns = [
        message
        for row in examples
        for message in (*row.messages, {"role": "assistant", "content": row.answer})
    ]
    rows = [
        dataclasses.replace(row, messages=_add_context(row.messages, data.system, turns))
        for row in rows
    ]
    if config.log_genai.interface is Interface.prompt:
        check_single_messages(
            rows,
            "log_genai.interface=prompt takes one user message",
            "set log_genai.interface=chat",
        )
    return rows[: data.limit]


def check_single_messages(rows: Sequence[Row], reason: str, advice: str) -> None:
    """Raise UserError if a row is a conversation of several messages.

    reason: what takes only one; advice: what to do, other than to change the rows.
    """
    if longer := sum(len(row.messages) > 1 for row in rows):
        raise UserError(
            f"{reason}, but {longer} of {len(rows)} rows are conversations of several: {advice}, "
            "or leave out evaluation.system, evaluation.examples and rows with messages"
        )


def digest(rows: Sequence[Row]) -> str:
    """Return the first `DIGEST_LENGTH` hexadecimal digits of the sha256 of all rows as JSON.

    Leaves out what equal rows may differ in. MLflow's own digest covers only the first 10,000 rows
    and has only 8 digits.
    """
    compared = [field.name for field in dataclasses.fields(Row) if field.compare]
    fields = [
        {name: value for name in compared if (value := getattr(row, name)) is not None}
        for row in rows
    ]
    content = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:DIGEST_LENGTH]


def parse_file(
    file: Path, name: str, data: EvaluationData, *, as_examples: bool = False
) -> tuple[list[Row], list[str]]:
    """Return the rows of a file, and the lines of an error message if any row is invalid.

    name: of the file in messages; as_examples: the rows are few-shot examples.
    """
    columns, parsed, problems = data.columns, [], []
    check_header = partial(row_checks.header_problem, columns=columns)
    for record in readers.read(file, check_header, columns.names):
        fields = row_checks.decode_json_fields(record.fields, columns.messages, columns.choices)
        fields = expected_answers.decode(fields, columns, is_csv=file.suffix.lower() == ".csv")
        of_row = [record.problem] if record.problem else list(_record_problems(fields, data))
        if not of_row:
            row = dataclasses.replace(_build_row(fields, data), location=record.location)
            if as_examples and row.messages[0]["role"] == "system":
                of_row = ["an example cannot have a system message: set evaluation.system"]
            parsed.append(row)
        problems += [f"{record.location}: {problem}" for problem in of_row]
    if not (problems or as_examples):
        problems += _consistency_problems(parsed, columns)
    if problems:
        required = (
            f"{columns.answer}, and either {columns.question} or {columns.messages}, which may end "
            "with the answer"
        )
        return [], [f"{name}: a row has {required}", *row_checks.list_first(problems)]
    return parsed, [] if parsed else [
        f"{name} has no rows: give at least one question and its answer"
    ]


def _locate_file(data: EvaluationData) -> tuple[Path, str]:
    """Return the data file and its name in messages; download it if it is on the hub."""
    if data.dataset is None:
        file = PROJECT / str(data.traces.rows if data.traces else data.data)
        return file, str(file)
    # Imported here, to keep the hub's client out of the memory of measured processes.
    from slmflow.datasets import hub_dataset

    return hub_dataset.get_file(data.dataset), f"{data.dataset.file} of {data.dataset.id}"


def _record_problems(fields: dict[str, Any], data: EvaluationData) -> Iterator[str]:
    columns = data.columns
    yield from row_checks.question_problems(fields, columns, may_end_with_answer=True)
    yield from expected_answers.problems(fields, columns)
    if columns.choices in fields:
        if columns.subject in fields:
            yield from row_checks.text_problems(columns.subject, fields[columns.subject])
    elif columns.question in fields and CHOICES in (data.template or ""):
        yield f"no {columns.choices}, but evaluation.template has {CHOICES}"


def _build_row(fields: dict[str, Any], data: EvaluationData) -> Row:
    """Return a row without system message and examples from the config."""
    columns = data.columns
    messages = row_checks.build_messages(expected_answers.without_answer(fields, columns), columns)
    question = messages[-1]["content"]
    template = (data.template if columns.question in fields else None) or QUESTION
    choices = fields.get(columns.choices)
    messages[-1]["content"] = multiple_choice.build_prompt(question, choices, template)
    answer, *others = expected_answers.accepted(fields, columns)
    if choices is None:
        return Row(messages, answer, other_answers=others or None, plain_question=question)
    subject = fields.get(columns.subject)
    return Row(messages, answer, choices, subject, plain_question=question)


def _consistency_problems(rows: Sequence[Row], columns: Columns) -> Iterator[str]:
    """Yield a problem if only some rows have choices or a subject.

    Metrics in the same table would otherwise cover different rows.
    """
    for name, column in (("choices", columns.choices), ("subject", columns.subject)):
        missing = [row.location for row in rows if getattr(row, name) is None]
        if 0 < len(missing) < len(rows):
            yield (
                f"{missing[0]}: no {column}, but {len(rows) - len(missing)} of {len(rows)} "
                f"rows have {column}: add it to all rows or to none, and evaluate the others "
                "separately"
            )


def _add_context(
    messages: list[Message], system: str | None, examples: Sequence[Message]
) -> list[Message]:
    """Insert the system message, unless there is one, and the examples before the messages."""
    if messages[0]["role"] == "system":
        return [messages[0], *examples, *messages[1:]]
    first = [{"role": "system", "content": system}] if system is not None else []
    return [*first, *examples, *messages]
