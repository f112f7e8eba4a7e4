from pathlib import Path

import pytest

from steps.common import rows
from steps.common.config import PROJECT
from steps.common.errors import UserError
from steps.common.rows import Row


def write(folder: Path, text: str) -> Path:
    file = folder / "rows.jsonl"
    file.write_text(text, encoding="utf-8")
    return file


def test_reads_rows_in_order_and_skips_blank_lines(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        '\ufeff{"question": "a?", "answer": "A"}\n\n{"question": "b\u2028?", "answer": "B"}\r\n',
    )
    assert rows.read(file) == [Row("a?", "A"), Row("b\u2028?", "B")]
    assert rows.read(file, limit=1) == [Row("a?", "A")]


def test_bundled_rows_are_read() -> None:
    assert len(rows.read(PROJECT / "bundled/capitals/evaluation.jsonl")) > 100


def test_names_all_bad_lines_at_once(tmp_path: Path) -> None:
    lines = [
        '{"question": "a?", "answer": "A"}',
        "not json",
        '{"question": "a?"}',
        '{"question": 7, "answer": " "}',
        "[1]",
    ]
    with pytest.raises(UserError) as caught:
        rows.read(write(tmp_path, "\n".join(lines)), limit=1)
    _, *problems = str(caught.value).splitlines()
    assert problems == [
        "line 2: not JSON (Expecting value: line 1 column 1 (char 0))",
        "line 3: no answer",
        "line 4: question is not text but 7",
        "line 4: answer is blank",
        "line 5: not a JSON object but [1]",
    ]


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_refuses_a_file_without_rows(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="has no rows"):
        rows.read(write(tmp_path, text))


def test_refuses_what_is_not_text(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read as UTF-8"):
        rows.read(file)
