"""Evaluation rows that the calibration text or the held-out text has."""

import json
from pathlib import Path
from typing import Any

import pytest

from slmflow.config import compose as configs
from slmflow.config.schema.config import Config
from slmflow.conversion.calibration import overlap
from slmflow.datasets import rows
from slmflow.errors import UserError

QUESTION = "How many legs does a spider have?"
ANSWER = "A spider has eight legs, and so it is no insect."
UNRELATED = {"question": "Which ocean is the deepest of all?", "answer": "The Pacific."}


def config(folder: Path, text: str, row: dict[str, Any], *overrides: str, key: str) -> Config:
    """Return a config with a calibrated target, rows of which the second is given, and a text."""
    folder.mkdir(exist_ok=True)
    (folder / "text.txt").write_text(f"Before it.\n\n{text}\n\nAfter it.")
    file = folder / "rows.jsonl"
    file.write_text("\n".join(json.dumps(each) for each in (UNRELATED | _same_columns(row), row)))
    chosen = ["target.quantization.algorithm=gptq", f"calibration.{key}={folder}"]
    return configs.load([*chosen, f"evaluation.data={file}", *overrides])


def _same_columns(row: dict[str, Any]) -> dict[str, Any]:
    return {"choices": ["The Pacific.", "The Arctic."]} if "choices" in row else {}


def check(config: Config) -> None:
    overlap.check([config], rows.read(config))


CHAT = {
    "messages": [
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hello, ask me."},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": "Eight."},
    ]
}
CHOICES = {"question": QUESTION, "choices": ["Six.", "Eight.", "Ten."], "answer": "B"}


@pytest.mark.parametrize("key", ["data", "held_out"])
@pytest.mark.parametrize(
    ("row", "part"),
    [
        ({"question": QUESTION, "answer": "Eight."}, "question"),
        (CHAT, "question"),
        (CHOICES, "question"),
        ({"question": "Legs?", "answer": ANSWER}, "expected answer"),
        ({"question": "Legs?", "answer": ["Eight.", ANSWER]}, "expected answer"),
        ({"question": "Legs?", "choices": ["Six.", ANSWER], "answer": "B"}, "expected answer"),
    ],
    ids=["question", "chat", "choices", "answer", "answers", "choice"],
)
def test_row_in_the_text_is_named(tmp_path: Path, row: dict[str, Any], part: str, key: str) -> None:
    text = f"{QUESTION} {ANSWER}"
    with pytest.raises(UserError) as error:
        check(config(tmp_path, text, row, key=key))

    reason, where = str(error.value).splitlines()
    assert "rows of its calibration or held-out text" in reason
    assert where == f"evaluation.data, line 2: the {part} is in calibration.{key}='{tmp_path}'"


@pytest.mark.parametrize(
    "spelling",
    [
        QUESTION.upper(),
        QUESTION.replace(" ", "\n\t "),
        QUESTION.replace("?", " ?"),
        QUESTION.removesuffix("?"),
        QUESTION.replace("spider", "\u201cspider\u201d"),
        QUESTION.replace("m", "\uff4d"),  # full width
    ],
)
def test_spelling_does_not_hide_a_row(tmp_path: Path, spelling: str) -> None:
    row = {"question": QUESTION, "answer": "Eight."}
    with pytest.raises(UserError, match="line 2: the question"):
        check(config(tmp_path, spelling, row, key="data"))


def test_template_does_not_hide_a_row(tmp_path: Path) -> None:
    template = "evaluation.template='Think, then answer: {question} Be brief.'"
    for row in ({"question": QUESTION, "answer": "Eight."}, CHAT, CHOICES):
        with pytest.raises(UserError, match="line 2: the question"):
            check(config(tmp_path, QUESTION, row, template, key="data"))


def test_short_text_and_another_question_are_no_overlap(tmp_path: Path) -> None:
    for row in (
        {"question": "Legs of spiders", "answer": "eight legs"},
        {"question": "How many legs has a spider in all?", "answer": ANSWER.replace("no", "an")},
        {"question": "Legs?", "choices": [ANSWER, "Ten."], "answer": "B"},
    ):
        check(config(tmp_path, f"Legs of spiders. {QUESTION} {ANSWER}", row, key="data"))


@pytest.mark.parametrize(
    "override", ["target=cpu_int4_rtn", "target=cpu_fp32", "evaluation.model_uri=models:/m-1"]
)
def test_model_without_calibration_is_not_checked(tmp_path: Path, override: str) -> None:
    row = {"question": QUESTION, "answer": "Eight."}
    calibrated = config(tmp_path, QUESTION, row, key="data")
    other = configs.load(
        [
            override,
            f"calibration.data={tmp_path}",
            f"evaluation.data={calibrated.evaluation.data}",
            *(["target=cpu_balanced"] if "model_uri" in override else []),
        ]
    )

    check(other)
    with pytest.raises(UserError):
        overlap.check([other, calibrated], rows.read(calibrated))


def test_bundled_text_has_no_bundled_row() -> None:
    check(configs.load(["target=cpu_balanced"]))
