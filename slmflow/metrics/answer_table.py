"""What a model answered, as a table: a line per row of the evaluation data.

`question`, `answer` (the expected one) and `prediction`; what it cost, as in `Answer`; `logprob`
and `tokens` of the expected answer, where the model tells. Where the rows have choices, `choice`,
the letter of the one that the model finds most likely (None: it does not tell), and the `subject`,
if they have one. Beside a reference also its answer, `reference`, and its `reference_choice`, the
position of the `first_diverging_token`, from 1, of the two texts as the model's tokenizer parts
them, and `same_until`, the tokens before that one as a share of the longer text.
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


def build(measurement: Measurement, rows: Sequence[Row]) -> pd.DataFrame:
    """Return the table of a model by itself."""
    asked = pd.DataFrame([{"question": row.question, "answer": row.answer} for row in rows])
    answers = pd.DataFrame([dataclasses.asdict(answer) for answer in measurement.answers])
    table = asked.join(answers.rename(columns={"text": "prediction"}))
    if told := measurement.likelihoods:
        table["logprob"] = [each.logprob for each in told]
        table["tokens"] = [each.tokens for each in told]
    if any(row.choices for row in rows):
        found = measurement.choice_logprobs or [None] * len(rows)
        table["choice"] = [_most_likely(row, told) for row, told in zip(rows, found, strict=True)]
    if any(row.subject for row in rows):
        table["subject"] = [row.subject for row in rows]
    return table


def _most_likely(row: Row, logprobs: Sequence[float] | None) -> str | None:
    """Return the letter of the most likely choice, the first of those that are level."""
    if not row.choices or logprobs is None:
        return None
    return multiple_choice.choice_letters(row.choices)[int(np.argmax(logprobs))]


def add_reference(table: pd.DataFrame, reference: pd.DataFrame, tokenizer: Path) -> pd.DataFrame:
    """Return the table of a model with the answers of the reference, and where they part.

    tokenizer: the tokenizer.json of both.
    """
    encode = Tokenizer.from_file(str(tokenizer)).encode_batch
    ours, theirs = (
        [each.ids for each in encode(list(texts), add_special_tokens=False)]
        for texts in (table["prediction"], reference["prediction"])
    )
    parted = list(map(text_scores.first_difference, ours, theirs))
    if "choice" in table:
        table = table.assign(reference_choice=reference["choice"])
    return table.assign(
        reference=reference["prediction"],
        first_diverging_token=pd.array(parted, dtype="Int64"),
        same_until=list(map(text_scores.shared_prefix, ours, theirs)),
    )


def score_drops(table: pd.DataFrame) -> pd.DataFrame:
    """Return by how much the reference has the better score of each row, in order of their weight.

    table: one beside a reference. The right choice, where there are any, exact match, token F1.
    """
    found = pd.DataFrame(index=table.index)
    if "choice" in table:  # None, where a model does not tell, is never right
        right = [table[name] == table["answer"] for name in ("reference_choice", "choice")]
        found["right"] = right[0].astype(int) - right[1].astype(int)
    for name, score in (
        ("exact_match", text_scores.exact_match),
        ("token_f1", text_scores.token_f1),
    ):
        theirs, ours = (_scores(table, by, score) for by in ("reference", "prediction"))
        found[name] = theirs - ours
    return found


def sort_by_regression(table: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the rows first where it is most behind the reference beside it.

    By their `drops`, and then the log-probability of the expected answer.
    """
    found = score_drops(table)
    if "logprob" in table and "logprob" in reference:
        found["logprob"] = reference["logprob"] - table["logprob"]
    return table.loc[found.sort_values(list(found), ascending=False, kind="stable").index]


def _scores(table: pd.DataFrame, by: str, score: text_scores.TextScore) -> pd.Series:
    pairs = zip(table[by], table["answer"], strict=True)
    return pd.Series([score(*pair) for pair in pairs], index=table.index)
