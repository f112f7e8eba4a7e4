"""What a model answered to each row, kept in the store.

Answers are kept by the model with its generation settings, the seed and the row alone. So another
target never asks the reference again, a longer data file asks only its new rows, and a killed
measurement continues where it was. Scores are kept without the sampling options: a sweep over the
temperature scores once.
"""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Any

from slmflow.datasets.rows import Row
from slmflow.measurement.journal import Journal
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, Likelihood, Measurement, RowScore
from slmflow.paths import PROJECT
from slmflow.pipeline import source_code

_KIND = "answers"


class StoredRows:
    """The answers and scores of one model, by the number of the row."""

    def __init__(self, model: MeasuredModel, rows: Sequence[Row], seed: int | None) -> None:
        """Read what is stored; nothing is for a model without a key."""
        self.answers: dict[int, Answer] = {}
        self.scores: dict[int, RowScore] = {}
        self.can_score = True
        self._rows = rows
        self._answers_journal = _open_journal(model, model.key, seed)
        self._scores_journal = _open_journal(model, model.scores_key or model.key, "scores")
        self._load()

    def forget(self) -> None:
        """Forget what was stored before: what is put from now on takes its place."""
        self.answers, self.scores, self.can_score = {}, {}, True

    def add(self, earlier: Measurement, numbers: Collection[int]) -> None:
        """Store what an earlier measurement of the model has for rows that lack it."""
        for number in numbers:
            if number not in self.answers:
                self.put_answer(number, earlier.answers[number])
        if earlier.likelihoods is None:
            self.put_cannot_score()
            return
        choices = earlier.choice_logprobs or (None,) * len(earlier.likelihoods)
        for number in numbers:
            if number not in self.scores and not self.answers[number].error:
                self.put_score(number, (earlier.likelihoods[number], choices[number]))

    def put_answer(self, number: int, answer: Answer) -> None:
        """Store the answer to a row."""
        self.answers[number] = answer
        row = _digest(self._rows[number].messages)
        _append(self._answers_journal, {"row": row, "answer": dataclasses.asdict(answer)})

    def put_score(self, number: int, score: RowScore) -> None:
        """Store the likelihoods of a row."""
        self.scores[number] = score
        likelihood, choices = score
        record = {"likelihood": dataclasses.asdict(likelihood), "choices": choices}
        _append(self._scores_journal, {"row": _score_digest(self._rows[number])} | record)

    def put_cannot_score(self) -> None:
        """Store that the model cannot score texts."""
        self.can_score = False
        _append(self._scores_journal, {"can_score": False})

    def _load(self) -> None:
        records = _read(self._answers_journal)
        answers = {each["row"]: each["answer"] for each in records if "answer" in each}
        records = _read(self._scores_journal)
        self.can_score = not any("can_score" in each for each in records)
        scores = {each["row"]: each for each in records if "likelihood" in each}
        for number, row in enumerate(self._rows):
            if answer := answers.get(_digest(row.messages)):
                self.answers[number] = Answer(**answer)
            if score := scores.get(_score_digest(row)):
                choices = score["choices"]
                self.scores[number] = (
                    Likelihood(**score["likelihood"]),
                    choices and tuple(choices),
                )


def _open_journal(model: MeasuredModel, key: str, of: int | str | None) -> Journal | None:
    """Return the journal of a model's answers with a seed, or of its scores; None without a key."""
    if not key:
        return None
    source = source_code.digest("slmflow.measurement.worker", PROJECT)
    return Journal(_KIND, _digest([key, of, source]), model.model_name)


def _read(journal: Journal | None) -> Sequence[dict[str, Any]]:
    return journal.read() if journal else ()


def _append(journal: Journal | None, record: dict[str, Any]) -> None:
    if journal:
        journal.append(record)


def _score_digest(row: Row) -> str:
    return _digest([row.messages, row.answer, row.choices])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
