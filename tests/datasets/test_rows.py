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


def read(file: Path, *overrides: str) -> list[Row]:
    given = [f"evaluation.{override}" for override in overrides]
    return rows.read(configs.load([f"evaluation.data='{file}'", *given]))


def problems(file: Path, *overrides: str) -> list[str]:
    """Return the lines of the refusal of a file, but for the first, which is about all of it."""
    with pytest.raises(UserError) as caught:
        read(file, *overrides)
    first, *others = str(caught.value).splitlines()
    assert f"{file}: a row has " in first
    return others


def asked(question: str, answer: str) -> Row:
    return Row([{"role": "user", "content": question}], answer)


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def test_reads_rows_in_order_and_skips_blank_lines(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        '\ufeff{"question": "a?", "answer": "A"}\n\n{"question": "b\u2028?", "answer": "B"}\r\n',
    )
    assert read(file) == [asked("a?", "A"), asked("b\u2028?", "B")]
    assert read(file, "limit=1") == [asked("a?", "A")]


def test_bundled_rows_are_read() -> None:
    assert len(rows.read(configs.load([]))) > 100


def test_names_all_bad_lines_at_once(tmp_path: Path) -> None:
    lines = [
        '{"question": "a?", "answer": "A"}',
        "not json",
        '{"question": "a?"}',
        '{"question": 7, "answer": " "}',
        "[1]",
        '{"question": null, "answer": "\\ud83d"}',
        "[" * 100_000,
    ]
    *found, deepest = problems(write(tmp_path, "\n".join(lines)), "limit=1")
    assert found == [
        "line 2: not JSON (Expecting value: line 1 column 1 (char 0))",
        "line 3: no answer",
        "line 4: question is not text but 7",
        "line 4: answer is blank",
        "line 5: not a JSON object but [1]",
        "line 6: no question and no messages",
        "line 6: answer has half a character (a lone surrogate), which no tokenizer takes",
    ]
    assert deepest.startswith("line 7: not JSON (")


def test_a_list_of_very_many_problems_is_cut(tmp_path: Path) -> None:
    found = problems(write(tmp_path, "{}\n" * 100))
    assert (len(found), found[99:]) == (101, ["line 50: no answer", "and 100 more"])


@pytest.mark.parametrize("text", ["", "\n \n"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_refuses_a_file_without_rows(tmp_path: Path, text: str, name: str) -> None:
    with pytest.raises(UserError, match="has no rows"):
        read(write(tmp_path, text, name))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_refuses_what_is_not_text(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read as UTF-8"):
        read(file)


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    """The CSV and the Parquet are those that pandas writes."""
    table = pd.DataFrame({"question": ['a, "b"\n?', "c?\r\n"], "answer": ["é", "NA"], "n": [1, 2]})
    table.to_csv(tmp_path / "rows.csv", index=False)
    table.to_parquet(tmp_path / "rows.PARQUET")
    table.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    expected = [asked('a, "b"\n?', "é"), asked("c?\r\n", "NA")]
    for name in ("rows.csv", "rows.PARQUET", "rows.jsonl"):
        assert read(tmp_path / name) == expected


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.jsonl"])
def test_messages_beside_questions(tmp_path: Path, name: str) -> None:
    """A table has both columns, and each row a value in one of them."""
    columns: dict[str, list[Any]] = {
        "question": ["c?", None],
        "messages": [None, CONVERSATION],
        "answer": ["C", "B"],
    }
    if name == "rows.parquet":
        parquet.write_table(pyarrow.table(columns), tmp_path / name)
    elif name == "rows.csv":
        columns["messages"][1] = json.dumps(CONVERSATION)
        pd.DataFrame(columns).to_csv(tmp_path / name, index=False)
    else:
        pd.DataFrame(columns).to_json(tmp_path / name, orient="records", lines=True)
    assert read(tmp_path / name) == [asked("c?", "C"), Row(CONVERSATION, "B")]
    assert read(tmp_path / name)[1].question == "b?"


def test_a_refusal_begins_with_what_a_row_has(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a row has answer, and either prompt or messages\n"):
        read(write(tmp_path, "{}"), "columns.question=prompt")


def test_columns_have_the_names_of_the_config(tmp_path: Path) -> None:
    names = ("columns.question=prompt", "columns.answer='the answer'")
    text = 'prompt,the answer\na?,A\n"",B'
    file = write(tmp_path, text, "rows.csv")
    assert problems(file, *names) == ["line 3: no prompt and no messages"]
    assert read(write(tmp_path, text.replace('""', "b?"), "rows.csv"), *names) == [
        asked("a?", "A"),
        asked("b?", "B"),
    ]


def test_a_csv_row_is_named_by_the_line_it_begins_on(tmp_path: Path) -> None:
    lines = [
        "question,answer",
        '"a',  # line 2
        "",
        'b?",A',
        "c?,",  # line 5
        "",
        "d?,D,more",  # line 7
        '"e\rf?","\r\n "',  # lines 8 to 10: a carriage return ends a line, too
        'g?,"open',
    ]
    assert problems(write(tmp_path, "\r\n".join(lines), "rows.csv")) == [
        "line 5: no answer",
        "line 7: 3 cells, but the header has 2",
        "line 8: no answer",
        "line 11: not CSV from here on (unexpected end of data)",
    ]


def test_a_long_cell_is_read(tmp_path: Path) -> None:
    file = write(tmp_path, f"question,answer\n{'a' * 200_000},A", "rows.csv")
    assert len(read(file)[0].question) == 200_000


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_a_csv_with_another_separator(tmp_path: Path, separator: str) -> None:
    file = write(tmp_path, f"question{separator}answer\na?{separator}A\n", "rows.csv")
    told = f"{separator!r} is between its columns: separate them by commas"
    assert problems(file) == [f"line 1: {told}"]


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["q", "answer"], "no column question or messages, but q, answer: name yours with"),
        (
            ["messages", "a"],
            "no column answer, but messages, a: name yours with evaluation.columns",
        ),
        (["q"], "no column answer and no column question or messages, but q: name yours with"),
        (["question", "answer", "answer"], "two columns are named answer: rename one"),
    ],
)
def test_columns_that_are_not_there(
    tmp_path: Path, name: str, columns: list[str], said: str
) -> None:
    file = tmp_path / name
    if name == "rows.parquet":
        parquet.write_table(pyarrow.table([["a"]] * len(columns), names=columns), file)
    else:
        write(tmp_path, ",".join(columns) + "\n" + ",".join("a" for _ in columns), name)
    [found] = problems(file)
    assert said in found


def test_parquet_rows_are_named_by_their_number(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    columns = {"question": ["a?", None, "b?"], "answer": [1, None, 2**60]}
    parquet.write_table(pyarrow.table(columns), file, row_group_size=1)
    assert problems(file) == [
        "row 1: answer is not text but 1",
        "row 2: no question and no messages",
        "row 2: no answer",
        "row 3: answer is not text but 1152921504606846976",
    ]


def test_refuses_what_is_not_parquet(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        read(write(tmp_path, "question,answer", "rows.parquet"))


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ("[1", "messages is not a list of messages but '[1'"),
        ([], "messages is not a list of messages but []"),
        (["a"], "messages, message 1 is not an object but 'a'"),
        ([{"role": "tool", "content": "a"}], "message 1: role is not one of system, user, assist"),
        ([{"role": "user"}], "messages, message 1: content is not text but None"),
        ([{"role": "user", "content": "a", "name": "b"}], "message 1: 'name' is not sent"),
        (CONVERSATION[:2], "messages: the last message is not the user's but of the assistant"),
        ([*CONVERSATION, system("s"), CONVERSATION[0]], "message 4: the system's message must be"),
    ],
)
def test_messages_that_cannot_be_sent(tmp_path: Path, messages: Any, said: str) -> None:
    [found] = problems(write(tmp_path, json.dumps({"messages": messages, "answer": "A"})))
    assert found.startswith("line 1: messages")
    assert said in found


def test_a_row_has_a_question_or_messages_not_both(tmp_path: Path) -> None:
    row = {"question": "b?", "messages": CONVERSATION, "answer": "B"}
    assert problems(write(tmp_path, json.dumps(row))) == [
        "line 1: both question and messages: give one of them"
    ]


def test_system_template_and_examples_are_put_around(tmp_path: Path) -> None:
    lines = [
        {"question": "{question} {0} \\1?", "answer": "Q"},
        {"messages": [system("own"), *CONVERSATION], "answer": "B"},
        {"messages": CONVERSATION, "answer": "B"},
    ]
    file = write(tmp_path, "\n".join(map(json.dumps, lines)))
    examples = write(tmp_path, "question,answer\nx?,X\ny?,Y", "examples.csv")
    template = "'Say {answer}: {question}{question}'"
    front = [
        {"role": "user", "content": "Say {answer}: x?x?"},
        {"role": "assistant", "content": "X"},
        {"role": "user", "content": "Say {answer}: y?y?"},
        {"role": "assistant", "content": "Y"},
    ]
    question = {
        "role": "user",
        "content": "Say {answer}: {question} {0} \\1?{question} {0} \\1?",
    }
    given = ("system='Be brief.'", f"template={template}", f"examples='{examples}'")
    assert read(file, *given) == [
        Row([system("Be brief."), *front, question], "Q"),
        Row([system("own"), *front, *CONVERSATION], "B"),
        Row([system("Be brief."), *front, *CONVERSATION], "B"),
    ]


def test_bad_examples_are_told_with_the_bad_rows(tmp_path: Path) -> None:
    file = write(tmp_path, "{}")
    row = {"messages": [system("s"), *CONVERSATION], "answer": "A"}
    examples = write(tmp_path, json.dumps(row), "examples.jsonl")
    _, none, header, first = problems(file, f"examples='{examples}'")
    assert none == "line 1: no answer"
    assert str(examples) in header
    assert first == "line 1: an example has no system message: set evaluation.system"


def test_a_prompt_cannot_be_a_conversation(tmp_path: Path) -> None:
    file = write(tmp_path, '{"question": "a?", "answer": "A"}')
    given = [f"evaluation.data='{file}'", "log_genai.interface=prompt"]
    assert rows.read(configs.load(given)) == [asked("a?", "A")]
    with pytest.raises(UserError, match=r"one user message, but 1 of 1 rows .*interface=chat"):
        rows.read(configs.load([*given, "evaluation.system=brief"]))


def test_the_digest_is_of_all_that_is_asked() -> None:
    many = [asked(f"{number}?", "A") for number in range(10_001)]
    digest = rows.digest(many)
    assert len(digest) == 36
    assert digest == rows.digest([asked(f"{number}?", "A") for number in range(10_001)])
    assert digest != rows.digest([*many[:-1], asked("10000?", "B")])
    assert digest != rows.digest([Row([system("s"), *many[0].messages], "A"), *many[1:]])
