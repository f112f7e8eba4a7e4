"""Compute the likelihood of the expected answers.

The log-probability of an answer is the sum over its tokens, each conditioned on the rendered
conversation and the preceding tokens. Both flavors score the same token ids; which those are is in
`slmflow.runtime.likelihood`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from slmflow.datasets import multiple_choice
from slmflow.datasets.rows import Message, Row
from slmflow.measurement.records import NO_SCORE, Likelihood, RowScore
from slmflow.measurement.scoring.token_scoring import TokenScore, TokenScorer, find_token_scorer
from slmflow.runtime.errors import is_rejection
from slmflow.runtime.readings import TokenPair

_ScoreFunction = Callable[[list[Message], str], tuple[float, int]]
"""Maps messages and an answer to the answer's natural log-probability and number of tokens."""


def score_rows(
    model: PyFuncModel, rows: Mapping[int, Row]
) -> Iterator[tuple[int, Likelihood, tuple[float, ...] | None]] | None:
    """Yield the number of each row, the likelihood of its answer and the scores of its choices.

    Rows come in the order in which their batches finish. The scores are the natural
    log-probabilities of the letters, None for a row without choices. A row that the model rejects
    has a likelihood of no tokens, and no scores. Returns None if the model cannot score texts.
    """
    if scorer := find_token_scorer(model):
        return _score_together(scorer, rows)
    if score := _find_score(model):
        return _score_alone(score, rows)
    return None


def _texts(row: Row) -> list[str]:
    """Return what to score of a row: the letters of its choices, or the expected answer."""
    return list(multiple_choice.choice_letters(row.choices)) if row.choices else [row.answer]


def _row_score(row: Row, likelihoods: list[Likelihood]) -> RowScore:
    """Return the score of a row from the likelihoods of its texts."""
    logprobs = tuple(each.logprob for each in likelihoods) if row.choices else None
    return likelihoods[_texts(row).index(row.answer)], logprobs


def _score_together(
    scorer: TokenScorer, rows: Mapping[int, Row]
) -> Iterator[tuple[int, Likelihood, tuple[float, ...] | None]]:
    encoded: dict[int, list[TokenPair]] = {}
    for number, row in rows.items():
        try:
            encoded[number] = [scorer.encode(row.messages, text) for text in _texts(row)]
        except MlflowException as error:
            if not is_rejection(error):
                raise
            yield number, *NO_SCORE
    places = [(number, index) for number, pairs in encoded.items() for index in range(len(pairs))]
    scores: dict[int, dict[int, TokenScore]] = {number: {} for number in encoded}
    for position, score in scorer.score([pair for pairs in encoded.values() for pair in pairs]):
        number, index = places[position]
        pairs, scored = encoded[number], scores[number]
        scored[index] = score
        if len(scored) == len(pairs):
            likelihoods = [
                Likelihood(scored[index].logprob, len(continuation))
                for index, (_, continuation) in enumerate(pairs)
            ]
            yield number, *_row_score(rows[number], likelihoods)


def _score_alone(
    score: _ScoreFunction, rows: Mapping[int, Row]
) -> Iterator[tuple[int, Likelihood, tuple[float, ...] | None]]:
    for number, row in rows.items():
        try:
            likelihoods = [Likelihood(*score(row.messages, text)) for text in _texts(row)]
        except MlflowException as error:
            if not is_rejection(error):
                raise
            yield number, *NO_SCORE
        else:
            yield number, *_row_score(row, likelihoods)


def _find_score(model: PyFuncModel) -> _ScoreFunction | None:
    """Return the method `score` of a Python model: of an older GenAI model, or the user's own."""
    try:
        python_model: Any = model.unwrap_python_model()
    except MlflowException:  # not a Python model
        return None
    score: _ScoreFunction | None = getattr(python_model, "score", None)
    return score
