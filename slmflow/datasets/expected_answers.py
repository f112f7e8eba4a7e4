"""A row's expected answer: from its own column or from the end of its messages, one or several.

Several accepted answers have the spellings of public datasets:

    ["Paris", "Paname"]                           a list of texts (Natural Questions)
    {"text": ["Paris"], "answer_start": [0]}      SQuAD on the hub
    [{"text": "Paris", "answer_start": 0}]        SQuAD's own files
    {"value": "Paris", "aliases": ["Paname"]}     TriviaQA
"""

from collections.abc import Iterator
from typing import Any

from slmflow.config.schema.evaluation import Columns
from slmflow.datasets import multiple_choice, row_checks
from slmflow.datasets.readers import short_repr


def decode(fields: dict[str, Any], columns: Columns, *, is_csv: bool) -> dict[str, Any]:
    """Return the fields of a row, with several accepted answers as a list.

    A row with choices has one answer, and is unchanged.
    """
    answer = fields.get(columns.answer)
    if answer is None or columns.choices in fields:
        return fields
    return fields | {columns.answer: _parse_cell(answer) if is_csv else _unfold(answer)}


def problems(fields: dict[str, Any], columns: Columns) -> Iterator[str]:
    """Yield the problems of a row's expected answers, and of its choices."""
    answers = _by_column(fields, columns)
    if not answers:
        yield f"no {columns.answer}" + (
            f", and {columns.messages} does not end with the assistant's: add one, or name your "
            "column with evaluation.columns.answer"
            if columns.messages in fields
            else ""
        )
    found = list(_value_problems(fields, columns, answers))
    yield from found
    if found or len(answers) < 2 or not isinstance(answers[columns.messages], str):
        return
    given, [last] = (_accepted(answer, fields, columns) for answer in answers.values())
    if last.strip() not in map(str.strip, given):
        yield (
            f"{columns.answer} is {short_repr(answers[columns.answer])}, but {columns.messages} "
            f"ends with {short_repr(answers[columns.messages])}: give the answer once, or the same"
        )


def accepted(fields: dict[str, Any], columns: Columns) -> list[str]:
    """Return the different accepted answers of a valid row, in order; a letter for choices."""
    return _accepted(next(iter(_by_column(fields, columns).values())), fields, columns)


def without_answer(fields: dict[str, Any], columns: Columns) -> dict[str, Any]:
    """Return the fields of a valid row, without an answer at the end of its messages."""
    messages: Any = fields.get(columns.messages)
    if not row_checks.ends_with_answer(messages):
        return fields
    return fields | {columns.messages: messages[:-1]}


def _unfold(value: Any) -> Any:
    """Return several accepted answers as a list; a value of no such spelling as it is."""
    match value:
        case {"text": list(texts)}:
            return texts
        case {"value": first, "aliases": list(others)}:
            return [first, *others]
        case list(items):
            return [item.get("text") if isinstance(item, dict) else item for item in items]
    return value


def _parse_cell(cell: str) -> Any:
    """Return the accepted answers of a cell of CSV: a list of texts, or the cell as it is.

    The expected text may itself be JSON, but hardly a list of texts.
    """
    answers = _unfold(row_checks.parse_json(cell))
    is_texts = isinstance(answers, list) and all(isinstance(each, str) for each in answers)
    return answers if is_texts and answers else cell


def _by_column(fields: dict[str, Any], columns: Columns) -> dict[str, Any]:
    """Return the answers of a row by the name of their column: its own, then the messages."""
    answers = {columns.answer: fields[columns.answer]} if columns.answer in fields else {}
    messages: Any = fields.get(columns.messages)
    if columns.question not in fields and row_checks.ends_with_answer(messages):
        answers[columns.messages] = messages[-1].get("content")  # checked with the messages
    return answers


def _value_problems(
    fields: dict[str, Any], columns: Columns, answers: dict[str, Any]
) -> Iterator[str]:
    if columns.choices in fields:
        found = [
            problem
            for name, answer in (answers or {columns.answer: None}).items()
            for problem in multiple_choice.choice_problems(
                columns.choices, fields[columns.choices], name, answer
            )
        ]
        yield from dict.fromkeys(found)  # those of the choices come with each answer
        return
    answer = answers.get(columns.answer)
    if isinstance(answer, list):
        if not answer:
            yield f"{columns.answer} has no text: give an accepted answer, or leave out the row"
        for number, each in enumerate(answer, start=1):
            yield from row_checks.text_problems(f"{columns.answer}, number {number}", each)
    elif answer is not None:
        yield from row_checks.text_problems(columns.answer, answer)


def _accepted(answer: Any, fields: dict[str, Any], columns: Columns) -> list[str]:
    if columns.choices in fields:
        return [multiple_choice.answer_letter(answer, fields[columns.choices])]
    return list(dict.fromkeys(answer if isinstance(answer, list) else [answer]))
