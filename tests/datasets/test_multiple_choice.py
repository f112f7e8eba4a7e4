"""Rows with choices: reading, validation and prompts."""

import json
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slmflow.config import compose as configs
from slmflow.datasets import rows
from slmflow.datasets.multiple_choice import build_prompt
from slmflow.datasets.rows import Row
from slmflow.errors import BadArguments
from tests.datasets.test_rows import CONVERSATION, problems, read, write, write_table

CITIES = ["Paris", "Rome", "Oslo", "Bern"]
LINES = "A. Paris\nB. Rome\nC. Oslo\nD. Bern"


def choice_row(**fields: Any) -> dict[str, Any]:
    return {"question": "Of Italy?", "choices": CITIES, "answer": "B"} | fields


def write_rows(folder: Path, *lines: dict[str, Any]) -> Path:
    return write(folder, "\n".join(map(json.dumps, lines)))


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.jsonl"])
def test_all_formats_yield_the_same_rows(tmp_path: Path, name: str) -> None:
    """MMLU on the hub is Parquet, with a list of choices and the answer's index as an integer."""
    columns = {
        "question": ["Of Italy?", "Of Norway?"],
        "choices": [CITIES, CITIES],
        "subject": ["south", "north"],
        "answer": [1, 2],
    }
    first, second = (
        [{"role": "user", "content": f"{question}\n{LINES}\nAnswer:"}]
        for question in columns["question"]
    )
    assert read(write_table(tmp_path / name, columns)) == [
        Row(first, "B", CITIES, "south"),
        Row(second, "C", CITIES, "north"),
    ]


@pytest.mark.parametrize(
    ("choices", "answer", "letter"),
    [
        *((CITIES, answer, "C") for answer in ("C", " C\n", 2, "2", "Oslo", " Oslo ")),
        (["B", "A"], 0, "A"),
        (["0", "2", "1"], "C", "C"),
        (["Rome", "Rome"], "B", "B"),
        (list(string.ascii_lowercase), "z", "Z"),
    ],
)
def test_answer_becomes_its_letter(
    tmp_path: Path, choices: list[str], answer: Any, letter: str
) -> None:
    [row] = read(write_rows(tmp_path, choice_row(choices=choices, answer=answer)))
    assert row.answer == letter


@pytest.mark.parametrize(
    ("choices", "answer", "message"),
    [
        (CITIES, "E", "answer 'E' is not one of the choices: give a letter from A to D, an index"),
        (CITIES, 4, "answer 4 is not one of the choices"),
        (CITIES, -1, "answer -1 is not one of the choices"),
        (CITIES, True, "answer True is not one of the choices"),
        (CITIES, 1.0, "answer 1.0 is not one of the choices"),
        (CITIES, "c", "answer 'c' is not one of the choices"),
        (CITIES, ["C"], "answer ['C'] is not one of the choices"),
        (CITIES, None, "no answer"),
        (["B", "A"], "A", "answer 'A' can mean A or B: give the letter, the index from 0 or"),
        (["0", "2", "1"], "1", "answer '1' can mean B or C"),
        (["Rome", "Rome "], "Rome", "answer 'Rome' can mean A or B"),
        (["Rome"], "A", "choices must be a list of 2 to 26 texts, not ['Rome']: fix it, or name"),
        (["x"] * 27, "A", "choices must be a list of 2 to 26 texts, not"),
        ({"text": CITIES}, "A", "choices must be a list of 2 to 26 texts, not {'text'"),
        ("[1", "A", "choices must be a list of 2 to 26 texts, not '[1'"),
        (["Rome", 7], "A", "choices, B must be text, not 7"),
        (["Rome", " "], "A", "choices, B is blank"),
        (["Rome", "\ud83d"], "A", "choices, B has half a character"),
    ],
)
def test_invalid_choices_or_answer_are_rejected(
    tmp_path: Path, choices: Any, answer: Any, message: str
) -> None:
    [problem] = problems(write_rows(tmp_path, choice_row(choices=choices, answer=answer)))
    assert problem.startswith(f"line 1: {message}")


def test_all_invalid_rows_are_reported_at_once(tmp_path: Path) -> None:
    lines = [
        choice_row(),
        choice_row(answer="X"),
        choice_row(choices=[], subject=3),
        choice_row(question=" "),
    ]
    reported = problems(write_rows(tmp_path, *lines), "limit=1")
    assert [line.split(" ")[1] for line in reported] == ["2:", "3:", "3:", "4:"]
    assert reported[2] == "line 3: subject must be text, not 3"


def test_choices_in_only_some_rows_are_rejected(tmp_path: Path) -> None:
    plain = {"question": "a?", "answer": "A"}
    file = write_rows(tmp_path, choice_row(), plain, choice_row(), plain)
    assert problems(file) == [
        "line 2: no choices, but 2 of 4 rows have choices: add it to all rows or to none, and "
        "evaluate the others separately"
    ]
    file = write_rows(tmp_path, choice_row(), choice_row(subject="south"))
    assert problems(file, "columns.choices=choices") == [
        "line 1: no subject, but 1 of 2 rows have subject: add it to all rows or to none, and "
        "evaluate the others separately"
    ]


def test_subject_without_choices_is_ignored(tmp_path: Path) -> None:
    file = write_rows(tmp_path, {"question": "a?", "answer": "A", "subject": 3})
    assert read(file) == [Row([{"role": "user", "content": "a?"}], "A")]


def test_column_names_are_configurable(tmp_path: Path) -> None:
    fields = {"question": "Of Italy?", "options": CITIES, "topic": "south", "answer": 1}
    names = ("columns.choices=options", "columns.subject=topic")
    (row,) = read(write_rows(tmp_path, fields), *names)
    assert (row.choices, row.subject, row.answer) == (CITIES, "south", "B")
    with pytest.raises(BadArguments, match="give different columns"):
        configs.load(["evaluation.columns.choices=answer"])


def test_prompt_equals_that_of_mmlu() -> None:
    """As built by `format_example` in Hendrycks' evaluate.py, without the answer."""
    prompt = "Of Italy?"
    for letter, choice in zip("ABCD", CITIES, strict=True):
        prompt += f"\n{letter}. {choice}"
    prompt += "\nAnswer:"
    assert build_prompt("Of Italy?", CITIES) == prompt
    assert build_prompt("Of Italy?", None) == "Of Italy?"


def test_template_may_place_the_choices(tmp_path: Path) -> None:
    fields = choice_row(question="{choices}?", choices=["{question}", "\\1"])
    file = write_rows(tmp_path, fields)
    placed = read(file, "template='Of:\n{choices}\n{question} Say a letter.'")
    assert placed[0].question == "Of:\nA. {question}\nB. \\1\n{choices}? Say a letter."
    after = read(file, "template='Q: {question}'")
    assert after[0].question == "Q: {choices}?\nA. {question}\nB. \\1\nAnswer:"
    plain = write_rows(tmp_path, {"question": "a?", "answer": "A"})
    assert problems(plain, "template='{choices} {question}'") == [
        "line 1: no choices, but evaluation.template has {choices}"
    ]


def test_choices_follow_the_last_message(tmp_path: Path) -> None:
    fields = {"messages": CONVERSATION, "choices": CITIES, "answer": "Bern"}
    (row,) = read(write_rows(tmp_path, fields))
    assert row.messages == [
        *CONVERSATION[:2],
        {"role": "user", "content": f"b?\n{LINES}\nAnswer:"},
    ]
    assert row.answer == "D"


def test_examples_may_have_choices(tmp_path: Path) -> None:
    examples = write(tmp_path, json.dumps(choice_row(answer="Rome")), "examples.jsonl")
    file = write_rows(tmp_path, choice_row(question="Of Norway?", answer=2))
    (row,) = read(file, f"examples='{examples}'")
    assert row.messages == [
        {"role": "user", "content": f"Of Italy?\n{LINES}\nAnswer:"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": f"Of Norway?\n{LINES}\nAnswer:"},
    ]
    assert row.answer == "C"


def test_prompt_interface_accepts_choices(tmp_path: Path) -> None:
    overrides = [
        f"evaluation.data='{write_rows(tmp_path, choice_row())}'",
        "log_genai.interface=prompt",
    ]
    assert rows.read(configs.load(overrides))[0].answer == "B"


def test_digest_covers_choices_and_subject() -> None:
    plain = Row([{"role": "user", "content": "a?"}], "A")
    variants = (plain, replace(plain, choices=CITIES), replace(plain, subject="south"))
    assert len({rows.digest([each]) for each in variants}) == 3
