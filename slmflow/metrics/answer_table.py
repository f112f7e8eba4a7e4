"""A model's answers as a table with one line per row of the evaluation data.

Columns: `question`, `answer` (the expected one) and `prediction`; `other_answers`, lists of the
further accepted ones, if any row has some; the fields of `Answer`, of which `reasoning` and `error`
only if there is any; `latency_s` and `first_token_s` of the rows that were timed; `logprob` and
`tokens` of the expected answer, not of further ones, if the model can score texts. Rows with
choices add `choice`, the letter of the most likely choice (None if the model cannot score texts),
and `subject`, if they have one. A table with a reference also has its answer, `reference`, and its
`reference_choice`; the `first_diverging_token`, the position from 1 of the first different token of
the two texts; and `same_until`, the number of tokens before that one divided by those of the longer
text.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tokenizers import Tokenizer

from slmflow.datasets import multiple_choice
from slmflow.datasets.rows import Row
from slmflow.measurement.records import Measurement
from slmflow.metrics import text_scores

OTHER_ANSWERS = "other_answers"


def build(measurement: Measurement, rows: Sequence[Row]) -> pd.DataFrame:
    """Return the table of a model, without a reference."""
    questions = pd.DataFrame([{"question": row.question, "answer": row.answer} for row in rows])
    if any(row.other_answers for row in rows):
        questions[OTHER_ANSWERS] = [row.other_answers or [] for row in rows]
    answers = pd.DataFrame([dataclasses.asdict(answer) for answer in measurement.answers])
    for column in ("reasoning", "error"):
        if answers[column].isna().all():
            del answers[column]
    table = questions.join(answers.rename(columns={"text": "prediction"}))
    if timings := {timing.row: timing for timing in measurement.timings}:
        timed = [timings.get(number) for number in range(len(rows))]
        table["latency_s"] = [timing and timing.latency_s for timing in timed]
        table["first_token_s"] = [timing and timing.first_token_s for timing in timed]
    if likelihoods := measurement.likelihoods:
        table["logprob"] = [each.logprob for each in likelihoods]
        table["tokens"] = [each.tokens for each in likelihoods]
    if any(row.choices for row in rows):
        logprobs = measurement.choice_logprobs or [None] * len(rows)
        table["choice"] = [_most_likely_choice(*pair) for pair in zip(rows, logprobs, strict=True)]
    if any(row.subject for row in rows):
        table["subject"] = [row.subject for row in rows]
    return table


def _most_likely_choice(row: Row, logprobs: Sequence[float] | None) -> str | None:
    """Return the letter of the most likely choice; of equally likely ones, the first."""
    if not row.choices or logprobs is None:
        return None
    return multiple_choice.choice_letters(row.choices)[int(np.argmax(logprobs))]


def add_reference(table: pd.DataFrame, reference: pd.DataFrame, tokenizer: Path) -> pd.DataFrame:
    """Return a model's table with the reference's answers and where the texts diverge.

    tokenizer: the tokenizer.json of both models.
    """
    encode = Tokenizer.from_file(str(tokenizer)).encode_batch
    ours, theirs = (
        [each.ids for each in encode(list(texts), add_special_tokens=False)]
        for texts in (table["prediction"], reference["prediction"])
    )
    diverging = list(map(text_scores.first_difference, ours, theirs))
    if "choice" in table:
        table = table.assign(reference_choice=reference["choice"])
    return table.assign(
        reference=reference["prediction"],
        first_diverging_token=pd.array(diverging, dtype="Int64"),
        same_until=list(map(text_scores.shared_prefix, ours, theirs)),
    )


def score_drops(table: pd.DataFrame) -> pd.DataFrame:
    """Return how much better the reference scores on each row, the most important score first.

    table: one with a reference. The scores: the correct choice, if there are choices, exact match
    (not the strict one), token F1.
    """
    drops = pd.DataFrame(index=table.index)
    if "choice" in table:  # None, of a model that cannot score texts, is never correct
        theirs, ours = (table[name] == table["answer"] for name in ("reference_choice", "choice"))
        drops["choice"] = theirs.astype(int) - ours.astype(int)
    for name, score in (
        ("exact_match", text_scores.exact_match),
        ("token_f1", text_scores.token_f1),
    ):
        theirs, ours = (_scores(table, column, score) for column in ("reference", "prediction"))
        drops[name] = theirs - ours
    return drops


def sort_by_regression(table: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the worst regressions against the reference first.

    Sorts by `score_drops`, then by the drop in log-probability of the expected answer.
    """
    drops = score_drops(table)
    if "logprob" in table and "logprob" in reference:
        drops["logprob"] = reference["logprob"] - table["logprob"]
    return table.loc[drops.sort_values(list(drops), ascending=False, kind="stable").index]


def accepted_answers(table: pd.DataFrame) -> list[list[str]]:
    """Return all accepted answers of each row, the expected one first."""
    others = table[OTHER_ANSWERS] if OTHER_ANSWERS in table else [[]] * len(table)
    return [[answer, *more] for answer, more in zip(table["answer"], others, strict=True)]


def _scores(table: pd.DataFrame, column: str, score: text_scores.TextScore) -> pd.Series:
    pairs = zip(table[column], accepted_answers(table), strict=True)
    return pd.Series([text_scores.best(score, *pair) for pair in pairs], index=table.index)
