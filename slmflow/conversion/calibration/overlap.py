"""Evaluation rows in calibration or held-out text: the model would be judged on what shaped it."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from slmflow.config.schema.config import Config
from slmflow.conversion.calibration import text
from slmflow.datasets.multiple_choice import choice_letters
from slmflow.datasets.row_checks import list_first
from slmflow.datasets.rows import Row
from slmflow.errors import UserError

# What is shorter may occur in any text.
_QUESTION_CHARACTERS, _ANSWER_CHARACTERS = 16, 40

_NOT_WORDS = re.compile(r"[\W_]+")


def check(configs: Iterable[Config], rows: Sequence[Row]) -> None:
    """Raise UserError, with the locations of the rows, if calibration or held-out text has any.

    configs: of the models that answer the rows; those without calibration have no such text. A
    question counts from 16 characters, an accepted answer from 40, in any case, spacing and
    punctuation.
    """
    texts = dict.fromkeys(
        (name, path)
        for config in configs
        if config.target.is_calibrated and config.evaluation.model_uri is None
        for name, path in config.calibration.paths.items()
    )
    problems = []
    for name, path in texts:
        normalized = _normalize("\n".join(text.read(path, f"calibration.{name}")))
        problems += [
            f"evaluation.data, {row.location}: the {part} is in calibration.{name}={str(path)!r}"
            for row in rows
            if (part := _find(row, normalized)) is not None
        ]
    if problems:
        summary = (
            "the evaluation cannot judge a model by rows of its calibration or held-out text: take "
            "them out of the text, or evaluate other rows"
        )
        raise UserError("\n".join([summary, *list_first(problems)]))


def _find(row: Row, normalized_text: str) -> str | None:
    """Return which part of a row a normalized text has, or None."""
    if _occurs(row.plain_question, _QUESTION_CHARACTERS, normalized_text):
        return "question"
    if any(_occurs(answer, _ANSWER_CHARACTERS, normalized_text) for answer in _answers(row)):
        return "expected answer"
    return None


def _answers(row: Row) -> Iterator[str]:
    """Yield the text of each accepted answer, for a letter that of its choice."""
    if row.choices is None:
        yield from row.accepted_answers
    else:
        yield row.choices[choice_letters(row.choices).index(row.answer)]


def _occurs(part: str, least_characters: int, normalized_text: str) -> bool:
    normalized = _normalize(part)
    return len(normalized) >= least_characters and normalized in normalized_text


def _normalize(part: str) -> str:
    composed = unicodedata.normalize("NFKC", part).casefold()
    return _NOT_WORDS.sub(" ", composed).strip()
