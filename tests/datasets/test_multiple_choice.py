"""Rows with choices, from every format, and what the models are sent."""

import json
import string
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from slmflow.config import compose as configs
from slmflow.datasets import rows
from slmflow.datasets.multiple_choice import asked
from slmflow.datasets.rows import Row
from slmflow.errors import BadArguments, UserError
from tests.datasets.test_rows import CONVERSATION, problems, read, write

CITIES = ["Paris", "Rome", "Oslo", "Bern"]
LINES = "A. Paris\nB. Rome\nC. Oslo\nD. Bern"


def row(**given: Any) -> dict[str, Any]:
    return {"question": "Of Italy?", "choices": CITIES, "answer": "B"} | given


def written(folder: Path, *lines: dict[str, Any]) -> Path:
    return write(folder, "\n".join(map(json.dumps, lines)))


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.jsonl"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    """MMLU on the hub is Parquet with a list, and with the index as an integer."""
    columns: dict[str, list[Any]] = {
        "question": ["Of Italy?", "Of Norway?"],
        "choices": [CITIES, CITIES],
        "subject": ["south", "north"],
        "answer": [1, 2],
    }
    if name == "rows.parquet":
        parquet.write_table(pyarrow.table(columns), tmp_path / name)
    elif name == "rows.csv":
        columns["choices"] = [json.dumps(CITIES)] * 2
        pd.DataFrame(columns).to_csv(tmp_path / name, index=False)
    else:
        pd.DataFrame(columns).to_json(tmp_path / name, orient="records", lines=True)
    assert read(tmp_path / name) == [
        Row(
            [{"role": "user", "content": f"Of {country}?\n{LINES}\nAnswer:"}],
            answer,
            CITIES,
            subject,
        )
        for country, answer, subject in (("Italy", "B", "south"), ("Norway", "C", "north"))
    ]


@pytest.mark.parametrize("answer", ["C", " C\n", 2, "2", "Oslo", " Oslo "])
def test_an_answer_is_kept_as_its_letter(tmp_path: Path, answer: Any) -> None:
    assert read(written(tmp_path, row(answer=answer)))[0].answer == "C"


@pytest.mark.parametrize(
    ("choices", "answer", "said"),
    [
        (CITIES, "E", "answer is none of the choices but 'E': give a letter from A to D, an index"),
        (CITIES, 4, "answer is none of the choices but 4"),
        (CITIES, -1, "answer is none of the choices but -1"),
        (CITIES, True, "answer is none of the choices but True"),
        (CITIES, 1.0, "answer is none of the choices but 1.0"),
        (CITIES, "c", "answer is none of the choices but 'c'"),
        (CITIES, ["C"], "answer is none of the choices but ['C']"),
        (CITIES, None, "no answer"),
        (["B", "A"], "A", "answer 'A' can mean A or B: of the letter, the index from 0 and the"),
        (["0", "2", "1"], "1", "answer '1' can mean B or C"),
        (["Rome", "Rome "], "Rome", "answer 'Rome' can mean A or B"),
        (["Rome"], "A", "choices is not a list of 2 to 26 texts but ['Rome']: mend it, or name"),
        (["x"] * 27, "A", "choices is not a list of 2 to 26 texts but"),
        ({"text": CITIES}, "A", "choices is not a list of 2 to 26 texts but {'text'"),
        ("[1", "A", "choices is not a list of 2 to 26 texts but '[1'"),
        (["Rome", 7], "A", "choices, B is not text but 7"),
        (["Rome", " "], "A", "choices, B is blank"),
        (["Rome", "\ud83d"], "A", "choices, B has half a character"),
    ],
)
def test_what_is_no_choice_or_none_of_them(
    tmp_path: Path, choices: Any, answer: Any, said: str
) -> None:
    [found] = problems(written(tmp_path, row(choices=choices, answer=answer)))
    assert found.startswith(f"line 1: {said}")


@pytest.mark.parametrize(
    ("choices", "answer", "letter"),
    [
        (["B", "A"], 0, "A"),
        (["0", "2", "1"], "C", "C"),
        (["Rome", "Rome"], "B", "B"),
        (list(string.ascii_lowercase), "z", "Z"),
    ],
)
def test_what_can_be_misread_has_a_clear_form(
    tmp_path: Path, choices: list[str], answer: Any, letter: str
) -> None:
    assert read(written(tmp_path, row(choices=choices, answer=answer)))[0].answer == letter


def test_all_bad_rows_are_named_at_once(tmp_path: Path) -> None:
    lines = [row(), row(answer="X"), row(choices=[], subject=3), row(question=" ")]
    found = problems(written(tmp_path, *lines), "limit=1")
    assert [line.split(" ")[1] for line in found] == ["2:", "3:", "3:", "4:"]
    assert found[2] == "line 3: subject is not text but 3"


def test_rows_of_two_kinds_are_refused(tmp_path: Path) -> None:
    plain = {"question": "a?", "answer": "A"}
    file = written(tmp_path, row(), plain, row(), plain)
    assert problems(file) == [
        "line 2: no choices, but 2 of 4 rows have choices: give it to all, or to none, and "
        "evaluate the others apart"
    ]
    file = written(tmp_path, row(), row(subject="south"))
    assert problems(file, "columns.choices=choices") == [
        "line 1: no subject, but 1 of 2 rows have subject: give it to all, or to none, and "
        "evaluate the others apart"
    ]


def test_a_subject_without_choices_is_as_any_other_column(tmp_path: Path) -> None:
    file = written(tmp_path, {"question": "a?", "answer": "A", "subject": 3})
    assert read(file) == [Row([{"role": "user", "content": "a?"}], "A")]


def test_columns_have_the_names_of_the_config(tmp_path: Path) -> None:
    given = {"question": "Of Italy?", "options": CITIES, "topic": "south", "answer": 1}
    names = ("columns.choices=options", "columns.subject=topic")
    (found,) = read(written(tmp_path, given), *names)
    assert (found.choices, found.subject, found.answer) == (CITIES, "south", "B")
    with pytest.raises(BadArguments, match="each must be a column of its own"):
        configs.load(["evaluation.columns.choices=answer"])


def test_the_prompt_is_that_of_mmlu() -> None:
    """As `format_example` of Hendrycks' evaluate.py writes it, before the answer."""
    prompt = "Of Italy?"
    for letter, choice in zip("ABCD", CITIES, strict=True):
        prompt += f"\n{letter}. {choice}"
    prompt += "\nAnswer:"
    assert asked("Of Italy?", CITIES) == prompt
    assert asked("Of Italy?", None) == "Of Italy?"


def test_a_template_may_place_the_choices(tmp_path: Path) -> None:
    given = row(question="{choices}?", choices=["{question}", "\\1"])
    file = written(tmp_path, given)
    placed = read(file, "template='Of:\n{choices}\n{question} Say a letter.'")
    assert placed[0].question == "Of:\nA. {question}\nB. \\1\n{choices}? Say a letter."
    after = read(file, "template='Q: {question}'")
    assert after[0].question == "Q: {choices}?\nA. {question}\nB. \\1\nAnswer:"
    plain = written(tmp_path, {"question": "a?", "answer": "A"})
    assert problems(plain, "template='{choices} {question}'") == [
        "line 1: no choices, but evaluation.template has {choices}"
    ]


def test_the_last_message_has_the_choices(tmp_path: Path) -> None:
    given = {"messages": CONVERSATION, "choices": CITIES, "answer": "Bern"}
    (found,) = read(written(tmp_path, given))
    assert found.messages == [
        *CONVERSATION[:2],
        {"role": "user", "content": f"b?\n{LINES}\nAnswer:"},
    ]
    assert found.answer == "D"


def test_examples_have_choices_too(tmp_path: Path) -> None:
    examples = write(tmp_path, json.dumps(row(answer="Rome")), "examples.jsonl")
    file = written(tmp_path, row(question="Of Norway?", answer=2))
    (found,) = read(file, f"examples='{examples}'")
    assert found.messages == [
        {"role": "user", "content": f"Of Italy?\n{LINES}\nAnswer:"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": f"Of Norway?\n{LINES}\nAnswer:"},
    ]
    assert found.answer == "C"


def test_a_prompt_may_have_choices(tmp_path: Path) -> None:
    given = [f"evaluation.data='{written(tmp_path, row())}'", "log_genai.interface=prompt"]
    assert rows.read(configs.load(given))[0].answer == "B"


def test_the_digest_is_of_choices_and_subject_too(tmp_path: Path) -> None:
    plain = Row([{"role": "user", "content": "a?"}], "A")
    given = [plain, Row(plain.messages, "A", CITIES), Row(plain.messages, "A", CITIES, "south")]
    assert len({rows.digest([each]) for each in given}) == 3


def test_a_file_without_rows_has_no_rows_of_two_kinds(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no rows"):
        read(write(tmp_path, "question,choices,answer\n", "rows.csv"))
