"""Expected answers: several of them, and those at the end of a conversation."""

import json
from pathlib import Path
from typing import Any

import pytest

from slmflow.batch.input_rows import parse_messages
from slmflow.config.schema.batch import BatchColumns
from slmflow.datasets.readers import Record
from slmflow.datasets.rows import Row
from tests.datasets.test_rows import problems, read, system_message, write, write_table

QUESTION = [{"role": "user", "content": "b?"}]
ASKED = [system_message("s"), {"role": "user", "content": "a?"}]
EARLIER = [*ASKED, {"role": "assistant", "content": "A"}, *QUESTION]


def answered(text: str) -> list[dict[str, str]]:
    return [*EARLIER, {"role": "assistant", "content": text}]


def write_row(folder: Path, **fields: Any) -> Path:
    return write(folder, json.dumps({"question": "b?"} | fields))


@pytest.mark.parametrize(
    "answer",
    [
        ["Paris", "Paname", "Paris"],
        {"text": ["Paris", "Paname", "Paname"], "answer_start": [3, 3, 9]},
        {"answer_start": [3, 3], "text": ["Paris", "Paname"]},
        [{"text": "Paris", "answer_start": 3}, {"text": "Paname", "answer_start": 9}],
        {"value": "Paris", "aliases": ["Paname", "Paris"], "type": "WikipediaEntity"},
    ],
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_several_answers_are_read(tmp_path: Path, name: str, answer: Any) -> None:
    is_csv = name == "rows.csv"
    cell = json.dumps(answer) if is_csv else answer
    file = write_table(tmp_path / name, {"question": ["b?"], "answers": [cell]})
    [row] = read(file, "columns.answer=answers")
    assert row == Row(QUESTION, "Paris", other_answers=["Paname"])


def test_single_accepted_answer_is_an_ordinary_one(tmp_path: Path) -> None:
    assert read(write_row(tmp_path, answer=["A", "A"])) == [Row(QUESTION, "A")]


@pytest.mark.parametrize(
    "answer", ["[1, 2]", "[]", '{"a": ["b"]}', '["a", 1]', "[a]", '"a"', "null", "1", "[" * 10_000]
)
def test_other_json_is_text_in_csv(tmp_path: Path, answer: str) -> None:
    file = write_table(tmp_path / "rows.csv", {"question": ["b?"], "answer": [answer]})
    assert read(file) == [Row(QUESTION, answer)]


def test_json_text_stays_text_in_jsonl(tmp_path: Path) -> None:
    assert read(write_row(tmp_path, answer='["a", "b"]')) == [Row(QUESTION, '["a", "b"]')]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([], "answer has no text: give an accepted answer, or leave out the row"),
        ({"text": [], "answer_start": []}, "answer has no text: give an accepted answer"),
        (["a", 1], "answer, number 2 must be text, not 1"),
        (["a", " "], "answer, number 2 is blank"),
        ([{"answer_start": 1}], "answer, number 1 must be text, not None"),
        ({"spans": ["a"]}, "answer must be text, not {'spans': ['a']}"),
    ],
)
def test_invalid_answers_are_rejected(tmp_path: Path, answer: Any, message: str) -> None:
    [problem] = problems(write_row(tmp_path, answer=answer))
    assert problem.startswith(f"line 1: {message}")


def test_choices_take_a_single_answer(tmp_path: Path) -> None:
    [problem] = problems(write_row(tmp_path, choices=["a", "b"], answer=["A", "B"]))
    assert problem.startswith("line 1: answer ['A', 'B'] is not one of the choices")
    columns = {"question": ["b?"], "choices": [["a", '["b"]']], "answer": ['["b"]']}
    [row] = read(write_table(tmp_path / "rows.csv", columns))
    assert (row.answer, row.other_answers) == ("B", None)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_last_message_of_the_assistant_is_the_answer(tmp_path: Path, name: str) -> None:
    """No column of answers is needed, and the answer is not sent."""
    file = write_table(tmp_path / name, {"messages": [answered("B"), answered("C")]})
    assert read(file) == [Row(EARLIER, "B"), Row(EARLIER, "C")]


def test_conversations_with_and_without_their_answer_mix(tmp_path: Path) -> None:
    columns = {
        "messages": [answered("B"), EARLIER, answered("B "), answered("B")],
        "answer": [None, "B", "B", ["C", "B"]],
    }
    lines = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    file = write(tmp_path, "\n".join(map(json.dumps, lines)))
    row = Row(EARLIER, "B")
    assert read(file) == [row, row, row, Row(EARLIER, "C", other_answers=["B"])]


def test_different_answers_are_rejected(tmp_path: Path) -> None:
    rows = [{"messages": answered("B"), "answer": answer} for answer in ("C", ["C", "D"])]
    assert problems(write(tmp_path, "\n".join(map(json.dumps, rows)))) == [
        "line 1: answer is 'C', but messages ends with 'B': give the answer once, or the same",
        "line 2: answer is ['C', 'D'], but messages ends with 'B': give the answer once, or the "
        "same",
    ]


def test_conversation_without_answer_is_rejected(tmp_path: Path) -> None:
    [problem] = problems(write(tmp_path, json.dumps({"messages": EARLIER})))
    assert problem == (
        "line 1: no answer, and messages does not end with the assistant's: add one, or name your "
        "column with evaluation.columns.answer"
    )


def test_answer_in_a_conversation_is_checked_once(tmp_path: Path) -> None:
    [problem] = problems(write(tmp_path, json.dumps({"messages": answered(" ")})))
    assert problem == "line 1: messages, message 5: content is blank"


def test_answered_question_with_choices_names_its_letter(tmp_path: Path) -> None:
    row = {"messages": answered("y"), "choices": ["x", "y"]}
    rows = [row, row | {"answer": 1}]
    first, second = read(write(tmp_path, "\n".join(map(json.dumps, rows))))
    assert first == second
    assert (first.answer, first.question) == ("B", "b?\nA. x\nB. y\nAnswer:")
    [problem] = problems(write(tmp_path, json.dumps(row | {"answer": "A"})))
    assert problem.startswith("line 1: answer is 'A', but messages ends with 'y'")
    [problem] = problems(write(tmp_path, json.dumps(row | {"messages": answered("z")})))
    assert problem.startswith("line 1: messages 'z' is not one of the choices")


def test_examples_may_be_answered_conversations(tmp_path: Path) -> None:
    examples = write(tmp_path, json.dumps({"messages": answered("B")[3:]}), "examples.jsonl")
    file = write_row(tmp_path, answer="A")
    turns = [*QUESTION, {"role": "assistant", "content": "B"}]
    assert read(file, f"examples='{examples}'") == [Row([*turns, *QUESTION], "A")]


def test_batch_job_rejects_an_answered_conversation() -> None:
    record = Record("line 1", {"messages": answered("B")})
    assert parse_messages(record, BatchColumns()).error == (
        "messages: the last message must have the role user, not assistant"
    )
