"""Questions with choices: how they are asked, and which choice is the right one.

The prompt is that of MMLU (Hendrycks et al., "Measuring Massive Multitask Language Understanding",
2021), as lm-evaluation-harness has it too: the question, a line `A. text` for each choice, and
`Answer:`.
"""

import re
import string
from collections.abc import Iterator, Sequence
from typing import Any

from slmflow.config.schema.evaluation import CHOICES, QUESTION
from slmflow.datasets import row_checks
from slmflow.datasets.readers import shown

_LETTERS = string.ascii_uppercase


def letters(choices: Sequence[str]) -> str:
    """Return the letters of the choices, in order."""
    return _LETTERS[: len(choices)]


def asked(question: str, choices: Sequence[str] | None, template: str = QUESTION) -> str:
    """Return a template with the question and the lines of its choices put in.

    Where the template does not place the choices, they and `Answer:` come after it.
    """
    if choices and CHOICES not in template:
        template = f"{template}\n{CHOICES}\nAnswer:"
    lines = "\n".join(map("{}. {}".format, _LETTERS, choices or ()))
    given = {QUESTION: question, CHOICES: lines}
    # At once, as a question may have such words in it.
    return re.sub("|".join(map(re.escape, given)), lambda found: given[found[0]], template)


def problems(name: str, choices: Any, answer_name: str, answer: Any) -> Iterator[str]:
    """Yield what is wrong with the choices of a row, or else with its answer.

    name, answer_name: of the columns; answer: None where there is none.
    """
    if not isinstance(choices, list) or not 2 <= len(choices) <= len(_LETTERS):
        yield (
            f"{name} is not a list of 2 to {len(_LETTERS)} texts but {shown(choices)}: mend it, or "
            "name another column with evaluation.columns.choices"
        )
        return
    wrong = [
        problem
        for letter, choice in zip(_LETTERS, choices, strict=False)
        for problem in row_checks.text_problems(f"{name}, {letter}", choice)
    ]
    yield from wrong
    if wrong or answer is None:
        return
    meant = _meant(answer, choices)
    if not meant:
        yield (
            f"{answer_name} is none of the choices but {shown(answer)}: give a letter from A to "
            f"{_LETTERS[len(choices) - 1]}, an index from 0 to {len(choices) - 1}, or a choice's "
            "text"
        )
    elif len(meant) > 1:
        yield (
            f"{answer_name} {shown(answer)} can mean {' or '.join(meant)}: of the letter, the "
            "index from 0 and the text, give one that can mean one choice only"
        )


def right(answer: str | int, choices: Sequence[str]) -> str:
    """Return the letter of the one choice that an answer without problems means."""
    (letter,) = _meant(answer, choices)
    return letter


def _meant(answer: Any, choices: Sequence[str]) -> list[str]:
    """Return the letters of the choices that an answer can mean."""
    if isinstance(answer, bool) or not isinstance(answer, str | int):
        return []
    named = str(answer).strip()
    return [
        letter
        for index, (letter, choice) in enumerate(zip(_LETTERS, choices, strict=False))
        if named == str(index) or (isinstance(answer, str) and named in (letter, choice.strip()))
    ]
