"""Evaluation rows from JSONL, CSV and Parquet files."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from slmflow.config import compose as configs
from slmflow.datasets import rows
from slmflow.datasets.rows import Row
from slmflow.errors import UserError

CONVERSATION = [
    {"role": "user", "content": "a?"},
    {"role": "assistant", "content": "A"},
    {"role": "user", "content": "b?"},
]


def write(folder: Path, text: str, name: str = "rows.jsonl") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8", newline="")
    return file


def write_table(file: Path, columns: dict[str, list[Any]]) -> Path:
    """Write columns in the format of the file's suffix; lists are JSON in CSV."""
    if file.suffix.lower() == ".parquet":
        parquet.write_table(pyarrow.table(columns), file)
    elif file.suffix == ".csv":
        as_text = pd.DataFrame(columns).map(lambda v: json.dumps(v) if isinstance(v, list) else v)
        as_text.to_csv(file, index=False)
    else:
        pd.DataFrame(columns).to_json(file, orient="records", lines=True)
    return file


def read(file: Path, *overrides: str) -> list[Row]:
    evaluation = [f"evaluation.{override}" for override in overrides]
    return rows.read(configs.load([f"evaluation.data='{file}'", *evaluation]))


def problems(file: Path, *overrides: str) -> list[str]:
    """Return the lines of the error message after the first, which is about the whole file."""
    with pytest.raises(UserError) as caught:
        read(file, *overrides)
    first, *others = str(caught.value).splitlines()
    assert f"{file}: a row has " in first
    return others


def question_row(question: str, answer: str) -> Row:
    return Row([{"role": "user", "content": question}], answer)


def system_message(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def test_rows_keep_their_order(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        '\ufeff{"question": "a?", "answer": "A"}\n\n{"question": "b\u2028?", "answer": "B"}\r\n',
    )
    assert read(file) == [question_row("a?", "A"), question_row("b\u2028?", "B")]
    assert read(file, "limit=1") == [question_row("a?", "A")]


def test_bundled_rows_are_valid() -> None:
    assert len(rows.read(configs.load([]))) > 100


def test_all_invalid_lines_are_reported_at_once(tmp_path: Path) -> None:
    lines = [
        '{"question": "a?", "answer": "A"}',
        "not json",
        '{"question": "a?"}',
        '{"question": 7, "answer": " "}',
        "[1]",
        '{"question": null, "answer": "\\ud83d"}',
        "[" * 100_000,
    ]
    *reported, deepest = problems(write(tmp_path, "\n".join(lines)), "limit=1")
    assert reported == [
        "line 2: not JSON (Expecting value: line 1 column 1 (char 0))",
        "line 3: no answer",
        "line 4: question must be text, not 7",
        "line 4: answer is blank",
        "line 5: not a JSON object but [1]",
        "line 6: no question and no messages",
        "line 6: answer has half a character (a lone surrogate), which no tokenizer accepts",
    ]
    assert deepest.startswith("line 7: not JSON (")


def test_long_list_of_problems_is_truncated(tmp_path: Path) -> None:
    reported = problems(write(tmp_path, "{}\n" * 100))
    assert (len(reported), reported[99:]) == (101, ["line 50: no answer", "and 100 more"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("rows.jsonl", ""), ("rows.jsonl", "\n \n"), ("rows.csv", ""), ("rows.csv", "\n \n")),
        ("rows.csv", "question,choices,answer\n"),
    ],
)
def test_file_without_rows_is_rejected(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(UserError, match="has no rows"):
        read(write(tmp_path, text, name))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_binary_file_is_rejected(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read as UTF-8"):
        read(file)


@pytest.mark.parametrize("name", ["rows.csv", "rows.PARQUET", "rows.jsonl"])
def test_all_formats_yield_the_same_rows(tmp_path: Path, name: str) -> None:
    """The table has questions and messages, and each row a value in one of the columns."""
    columns: dict[str, list[Any]] = {
        "question": ['a, "b"\n?', "c?\r\n", None],
        "messages": [None, None, CONVERSATION],
        "answer": ["é", "NA", "B"],
        "n": [1, 2, 3],
    }
    rows_read = read(write_table(tmp_path / name, columns))
    expected = [question_row('a, "b"\n?', "é"), question_row("c?\r\n", "NA")]
    assert rows_read == [*expected, Row(CONVERSATION, "B")]
    assert rows_read[2].question == "b?"


def test_error_starts_with_the_required_columns(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="a row has answer, and either prompt or messages, which may"
    ):
        read(write(tmp_path, "{}"), "columns.question=prompt")


def test_column_names_are_configurable(tmp_path: Path) -> None:
    names = ("columns.question=prompt", "columns.answer='the answer'")
    text = 'prompt,the answer\na?,A\n"",B'
    file = write(tmp_path, text, "rows.csv")
    assert problems(file, *names) == ["line 3: no prompt and no messages"]
    assert read(write(tmp_path, text.replace('""', "b?"), "rows.csv"), *names) == [
        question_row("a?", "A"),
        question_row("b?", "B"),
    ]


def test_csv_row_is_located_by_its_first_line(tmp_path: Path) -> None:
    lines = [
        "question,answer",
        '"a',  # line 2
        "",
        'b?",A',
        "c?,",  # line 5
        "",
        "d?,D,more",  # line 7
        '"e\rf?","\r\n "',  # lines 8 to 10: a carriage return also ends a line
        'g?,"open',
    ]
    assert problems(write(tmp_path, "\r\n".join(lines), "rows.csv")) == [
        "line 5: no answer",
        "line 7: 3 cells, but the header has 2",
        "line 8: no answer",
        "line 11: not CSV from here on (unexpected end of data)",
    ]


def test_long_csv_cell_is_read(tmp_path: Path) -> None:
    file = write(tmp_path, f"question,answer\n{'a' * 200_000},A", "rows.csv")
    assert len(read(file)[0].question) == 200_000


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_csv_with_another_separator_is_rejected(tmp_path: Path, separator: str) -> None:
    file = write(tmp_path, f"question{separator}answer\na?{separator}A\n", "rows.csv")
    problem = f"the columns are separated by {separator!r}: separate them by commas"
    assert problems(file) == [f"line 1: {problem}"]


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["q", "answer"], "no column question or messages, but q, answer: name yours with"),
        (
            ["question", "a"],
            "no column answer, but question, a: name yours with evaluation.columns",
        ),
        (["q"], "no column answer and no column question or messages, but q: name yours with"),
        (["question", "answer", "answer"], "two columns are named answer: rename one"),
    ],
)
def test_missing_column_is_reported(
    tmp_path: Path, name: str, columns: list[str], message: str
) -> None:
    file = tmp_path / name
    if name == "rows.parquet":
        parquet.write_table(pyarrow.table([["a"]] * len(columns), names=columns), file)
    else:
        write(tmp_path, ",".join(columns) + "\n" + ",".join("a" for _ in columns), name)
    [problem] = problems(file)
    assert message in problem


def test_parquet_row_is_located_by_its_number(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    columns = {"question": ["a?", None, "b?"], "answer": [1, None, 2**60]}
    parquet.write_table(pyarrow.table(columns), file, row_group_size=1)
    assert problems(file) == [
        "row 1: answer must be text, not 1",
        "row 2: no question and no messages",
        "row 2: no answer",
        "row 3: answer must be text, not 1152921504606846976",
    ]


def test_invalid_parquet_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        read(write(tmp_path, "question,answer", "rows.parquet"))


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("[1", "messages must be a list of messages, not '[1'"),
        ([], "messages must be a list of messages, not []"),
        (["a"], "messages, message 1 must be an object, not 'a'"),
        ([{"role": "tool", "content": "a"}], "message 1: role must be one of system, user, assis"),
        ([{"role": "user"}], "messages, message 1: content must be text, not None"),
        ([{"role": "user", "content": "a", "name": "b"}], "message 1: 'name' is not supported"),
        ([system_message("s")], "messages: the last message must have the role user, not system"),
        (CONVERSATION[1:2], "messages must have a message of the user before the answer"),
        (
            [system_message("s"), CONVERSATION[1]],
            "messages: the message before the answer must have the role user, not system",
        ),
        (
            [*CONVERSATION[:2], CONVERSATION[1]],
            "messages: the message before the answer must have the role user, not assistant",
        ),
        (
            [*CONVERSATION, system_message("s"), CONVERSATION[0]],
            "message 4: a system message must be the",
        ),
    ],
)
def test_invalid_messages_are_rejected(tmp_path: Path, messages: Any, message: str) -> None:
    [problem] = problems(write(tmp_path, json.dumps({"messages": messages, "answer": "A"})))
    assert problem.startswith("line 1: messages")
    assert message in problem


def test_question_and_messages_exclude_each_other(tmp_path: Path) -> None:
    row = {"question": "b?", "messages": CONVERSATION, "answer": "B"}
    assert problems(write(tmp_path, json.dumps(row))) == [
        "line 1: both question and messages: give one of them"
    ]


def test_system_message_template_and_examples_are_added(tmp_path: Path) -> None:
    lines = [
        {"question": "{question} {0} \\1?", "answer": "Q"},
        {"messages": [system_message("own"), *CONVERSATION], "answer": "B"},
        {"messages": CONVERSATION, "answer": "B"},
    ]
    file = write(tmp_path, "\n".join(map(json.dumps, lines)))
    examples = write(tmp_path, "question,answer\nx?,X\ny?,Y", "examples.csv")
    template = "'Say {answer}: {question}{question}'"
    turns = [
        {"role": "user", "content": "Say {answer}: x?x?"},
        {"role": "assistant", "content": "X"},
        {"role": "user", "content": "Say {answer}: y?y?"},
        {"role": "assistant", "content": "Y"},
    ]
    question = {
        "role": "user",
        "content": "Say {answer}: {question} {0} \\1?{question} {0} \\1?",
    }
    overrides = ("system='Be brief.'", f"template={template}", f"examples='{examples}'")
    assert read(file, *overrides) == [
        Row([system_message("Be brief."), *turns, question], "Q"),
        Row([system_message("own"), *turns, *CONVERSATION], "B"),
        Row([system_message("Be brief."), *turns, *CONVERSATION], "B"),
    ]


def test_invalid_examples_and_rows_are_reported_together(tmp_path: Path) -> None:
    file = write(tmp_path, "{}")
    row = {"messages": [system_message("s"), *CONVERSATION], "answer": "A"}
    examples = write(tmp_path, json.dumps(row), "examples.jsonl")
    _, none, header, first = problems(file, f"examples='{examples}'")
    assert none == "line 1: no answer"
    assert str(examples) in header
    assert first == "line 1: an example cannot have a system message: set evaluation.system"


def test_prompt_interface_rejects_conversations(tmp_path: Path) -> None:
    file = write(tmp_path, '{"question": "a?", "answer": "A"}')
    overrides = [f"evaluation.data='{file}'", "log_genai.interface=prompt"]
    assert rows.read(configs.load(overrides)) == [question_row("a?", "A")]
    with pytest.raises(UserError, match=r"one user message, but 1 of 1 rows .*interface=chat"):
        rows.read(configs.load([*overrides, "evaluation.system=brief"]))


def test_digest_covers_all_messages() -> None:
    many = [question_row(f"{number}?", "A") for number in range(10_001)]
    digest = rows.digest(many)
    assert len(digest) == 36
    assert digest == rows.digest([question_row(f"{number}?", "A") for number in range(10_001)])
    assert digest != rows.digest([*many[:-1], question_row("10000?", "B")])
    assert digest != rows.digest([Row([system_message("s"), *many[0].messages], "A"), *many[1:]])


def test_rows_know_their_location(tmp_path: Path) -> None:
    lines = '{"question": "a?", "answer": "A"}\n\n{"question": "b?", "answer": "B"}\n'
    file = write(tmp_path, lines)
    assert [row.location for row in read(file)] == ["line 1", "line 3"]
    assert [row.location for row in read(file, "system=brief")] == ["line 1", "line 3"]
    table = {"question": ["a?", "b?"], "answer": ["A", "B"]}
    parquet_file = write_table(tmp_path / "rows.parquet", table)
    assert [row.location for row in read(parquet_file)] == ["row 1", "row 2"]
    assert rows.digest(read(file)) == rows.digest(read(parquet_file))


def test_digest_covers_accepted_answers() -> None:
    row = question_row("a?", "A")
    assert rows.digest([row]) == rows.digest([dataclasses.replace(row, other_answers=None)])
    assert rows.digest([row]) != rows.digest([dataclasses.replace(row, other_answers=["B"])])
