"""Answer requests with a loaded MLflow model, in this process or in a worker of Spark's.

This file alone is sent to the workers, so it imports nothing else of slmflow's.
"""

import functools
import json
from collections.abc import Sequence
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

REQUEST = "request"
"""The column of requests: each the JSON object of one row that the model takes."""

_LONGEST_REASON = 1000


class Answerer:
    """A model that gives what it says to every request, or why it says nothing to that one."""

    def __init__(self, model: PyFuncModel) -> None:
        """Answer with a loaded model."""
        self._model = model
        self._one_by_one = False

    def predict(self, requests: pd.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        """Return for each request, in order, a JSON object: its `reply`, or the `error`.

        requests: a frame with the column `request`.
        """
        given = [json.loads(request) for request in requests[REQUEST]]
        return [json.dumps(told, default=_plain) for told in self._answered(given)]

    def _answered(self, requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Ask for all at once; where that fails, for each half, down to who is at fault."""
        if not requests:
            return []
        if not (self._one_by_one and len(requests) > 1):
            try:
                return [{"reply": reply} for reply in self._asked(requests)]
            except _TakesOne:
                self._one_by_one = True
            except Exception as error:
                if len(requests) == 1:
                    return [{"error": _reason(error)}]
        parts = len(requests) if self._one_by_one else 2
        return [told for part in _split(requests, parts) for told in self._answered(part)]

    def _asked(self, requests: Sequence[dict[str, Any]]) -> list[Any]:
        replied: Any = self._model.predict(pd.DataFrame(requests))
        replies = replied.tolist() if isinstance(replied, np.ndarray | pd.Series) else replied
        if isinstance(replies, list) and len(replies) == len(requests):
            return replies
        if len(requests) > 1:
            raise _TakesOne
        return [replies]


class _TakesOne(Exception):
    """The model answers a frame as one request, as MLflow's ChatModel and agents do."""


@functools.cache
def load(folder: str) -> Answerer:
    """Return the answerer of the model in a folder; a process loads it once."""
    return Answerer(mlflow.pyfunc.load_model(folder))


_load_pyfunc = load
"""What MLflow calls in a worker of Spark's."""


def _split(requests: Sequence[dict[str, Any]], parts: int) -> list[Sequence[dict[str, Any]]]:
    size = -(-len(requests) // parts)
    return [requests[start : start + size] for start in range(0, len(requests), size)]


def _reason(error: Exception) -> str:
    said = error.message if isinstance(error, MlflowException) else f"{error}"
    kind = "" if isinstance(error, MlflowException) else f"{type(error).__name__}: "
    return f"{kind}{said}".strip()[:_LONGEST_REASON]


def _plain(value: Any) -> Any:
    """Return what JSON has for a value that some models put into their answers."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if hasattr(value, "model_dump"):
        return value.model_dump()
    return str(value)
