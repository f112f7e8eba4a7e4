"""Answer rows by one request at a time, which can be timed."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from slmflow.datasets.rows import Row
from slmflow.flavors.chat_interfaces import (
    Completion,
    find_interface,
    input_names,
    request_completion,
)
from slmflow.measurement.records import Answer, Timing
from slmflow.runtime.errors import is_rejection

# The first requests include lazy initialization, of decode steps too.
_WARM_UP_TOKENS = 4


class SingleAnswerer:
    """Answers rows by requests through MLflow's `predict`, each with the same seed.

    A row that the model rejects gets an error and does not end the measurement.
    """

    def __init__(self, model: PyFuncModel, seed: int | None) -> None:
        """Answer with a loaded model."""
        self._model = model
        self._max_tokens_field = find_interface(model.metadata).max_tokens_field
        self._seed = _seeder(model, seed)

    def warm_up(self, row: Row) -> None:
        """Send a short request, or a whole one where the interface has no limit."""
        try:
            self._request(row, **self._limit(_WARM_UP_TOKENS))
        except MlflowException as error:
            if not is_rejection(error):
                raise

    def time(self, number: int, row: Row) -> tuple[Answer, Timing | None]:
        """Answer one row and time it; a rejected row has no timing."""
        try:
            completion, latency_s, first_token_s = self._timed_request(row)
        except MlflowException as error:
            return rejected_answer(error), None
        tokens = completion.prompt_tokens, completion.completion_tokens
        return to_answer(completion), Timing(number, latency_s, first_token_s, *tokens)

    def answer(self, rows: Mapping[int, Row]) -> Iterator[tuple[int, Answer]]:
        """Yield the number of each row with its answer, in any order."""
        for number, row in rows.items():
            yield number, self.answer_alone(row)

    def answer_alone(self, row: Row) -> Answer:
        """Answer one row by a request of its own."""
        try:
            return to_answer(self._request(row)[0])
        except MlflowException as error:
            return rejected_answer(error)

    def _timed_request(self, row: Row) -> tuple[Completion, float, float | None]:
        """Return a completion, its latency and the time to its first token, in seconds."""
        first_token_s = None
        if self._max_tokens_field:
            short, seconds = self._request(row, **self._limit(1))
            # A longer completion than requested says nothing about the first token.
            first_token_s = seconds if short.completion_tokens in (0, 1) else None
        return *self._request(row), first_token_s

    def _request(self, row: Row, **options: Any) -> tuple[Completion, float]:
        options |= self._seed()
        started = time.perf_counter()
        completion = request_completion(self._model, row.messages, **options)
        return completion, time.perf_counter() - started

    def _limit(self, tokens: int) -> dict[str, int]:
        return {self._max_tokens_field: tokens} if self._max_tokens_field else {}


def to_answer(completion: Completion) -> Answer:
    """Return the answer in a completion."""
    return Answer(
        completion.text,
        completion.prompt_tokens,
        completion.completion_tokens,
        completion.reasoning or None,
    )


def rejected_answer(error: MlflowException) -> Answer:
    """Return the answer to a row that the model rejected; raise other errors again."""
    if not is_rejection(error):
        raise error
    return Answer("", None, None, error=error.message)


def _seeder(model: PyFuncModel, seed: int | None) -> Callable[[], dict[str, Any]]:
    """Return a function that seeds the model before a request and returns its seed option."""
    if seed is None:
        return dict
    if "seed" in input_names(model.metadata):
        return lambda: {"seed": seed}
    if "transformers" in model.metadata.flavors:
        from transformers import set_seed  # transformers samples with torch's global generators

        return lambda: set_seed(seed) or {}
    return dict
