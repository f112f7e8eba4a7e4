"""Multiple-choice questions: the prompt, and validation of choices and expected answer.

The prompt is that of MMLU (Hendrycks et al., "Measuring Massive Multitask Language Understanding",
2021), as in lm-evaluation-harness: the question, a line `A. text` for each choice, and `Answer:`.
"""

import re
import string
from collections.abc import Iterator, Sequence
from typing import Any

from slmflow.config.schema.evaluation import CHOICES, QUESTION
from slmflow.datasets import row_checks
from slmflow.datasets.readers import short_repr

_LETTERS = string.ascii_uppercase


def choice_letters(choices: Sequence[str]) -> str:
    """Return the letters of the choices, in order."""
    return _LETTERS[: len(choices)]


def build_prompt(question: str, choices: Sequence[str] | None, template: str = QUESTION) -> str:
    """Return the template with the question and the lines of its choices filled in.

    A template without `{choices}` is followed by the choices and `Answer:`.
    """
    if choices and CHOICES not in template:
        template = f"{template}\n{CHOICES}\nAnswer:"
    lines = "\n".join(map("{}. {}".format, _LETTERS, choices or ()))
    values = {QUESTION: question, CHOICES: lines}
    # In one pass, as the question itself may contain a placeholder.
    return re.sub("|".join(map(re.escape, values)), lambda match: values[match[0]], template)


def choice_problems(name: str, choices: Any, answer_name: str, answer: Any) -> Iterator[str]:
    """Yield the problems of a row's choices or, if there are none, of its expected answer.

    name, answer_name: the columns; answer: None if it is missing.
    """
    if not isinstance(choices, list) or not 2 <= len(choices) <= len(_LETTERS):
        yield (
            f"{name} must be a list of 2 to {len(_LETTERS)} texts, not {short_repr(choices)}: fix "
            "it, or name another column with evaluation.columns.choices"
        )
        return
    text_problems = [
        problem
        for letter, choice in zip(_LETTERS, choices, strict=False)
        for problem in row_checks.text_problems(f"{name}, {letter}", choice)
    ]
    yield from text_problems
    if text_problems or answer is None:
        return
    letters = _matching_letters(answer, choices)
    if not letters:
        yield (
            f"{answer_name} {short_repr(answer)} is not one of the choices: give a letter from A "
            f"to {_LETTERS[len(choices) - 1]}, an index from 0 to {len(choices) - 1}, or the text "
            "of a choice"
        )
    elif len(letters) > 1:
        yield (
            f"{answer_name} {short_repr(answer)} can mean {' or '.join(letters)}: give the "
            "letter, the index from 0 or the text, whichever fits one choice only"
        )


def answer_letter(answer: str | int, choices: Sequence[str]) -> str:
    """Return the letter of the choice that a valid expected answer names."""
    (letter,) = _matching_letters(answer, choices)
    return letter


def _matching_letters(answer: Any, choices: Sequence[str]) -> list[str]:
    """Return the letters of all choices whose letter, index or text equals the answer."""
    if isinstance(answer, bool) or not isinstance(answer, str | int):
        return []
    text = str(answer).strip()
    return [
        letter
        for index, (letter, choice) in enumerate(zip(_LETTERS, choices, strict=False))
        if text == str(index) or (isinstance(answer, str) and text in (letter, choice.strip()))
    ]
