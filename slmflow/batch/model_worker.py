"""Run a loaded MLflow model on requests, in this process or in a Spark worker.

Spark's workers receive this file alone, so it imports nothing else of slmflow.
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

REQUEST_COLUMN = "request"
"""The column of requests. Each is a JSON object: one row of the model's input."""

_MAX_ERROR_CHARACTERS = 1000


class RequestPredictor:
    """Run a model on requests; a request that fails gets an error and does not fail the others."""

    def __init__(self, model: PyFuncModel) -> None:
        """Wrap a loaded model."""
        self.model = model
        self._one_by_one = False

    def predict(self, requests: pd.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        """Return a JSON object for each request, in order: its `reply`, or its `error`.

        requests: a frame with the column `request`.
        """
        decoded = [json.loads(request) for request in requests[REQUEST_COLUMN]]
        return [json.dumps(result, default=_to_json) for result in self._predict_all(decoded)]

    def _predict_all(self, requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Send all requests at once; if that fails, send halves, down to the failing request."""
        if not requests:
            return []
        if not (self._one_by_one and len(requests) > 1):
            try:
                return [{"reply": reply} for reply in self._predict_once(requests)]
            except _OneRequestPerCall:
                self._one_by_one = True
            except Exception as error:
                if len(requests) == 1:
                    return [{"error": _error_message(error)}]
        parts = len(requests) if self._one_by_one else 2
        return [result for part in _split(requests, parts) for result in self._predict_all(part)]

    def _predict_once(self, requests: Sequence[dict[str, Any]]) -> list[Any]:
        output: Any = self.model.predict(pd.DataFrame(requests))
        replies = output.tolist() if isinstance(output, np.ndarray | pd.Series) else output
        if isinstance(replies, list) and len(replies) == len(requests):
            return replies
        if len(requests) > 1:
            raise _OneRequestPerCall
        return [replies]


class _OneRequestPerCall(Exception):
    """The model treats a frame as one request, as MLflow's ChatModel and agents do."""


@functools.cache
def load_predictor(folder: str) -> RequestPredictor:
    """Load the model in a folder, once per process."""
    return RequestPredictor(mlflow.pyfunc.load_model(folder))


_load_pyfunc = load_predictor
"""The function that MLflow calls in a Spark worker."""


def _split(requests: Sequence[dict[str, Any]], parts: int) -> list[Sequence[dict[str, Any]]]:
    size = -(-len(requests) // parts)
    return [requests[start : start + size] for start in range(0, len(requests), size)]


def _error_message(error: Exception) -> str:
    if isinstance(error, MlflowException):
        message = str(error.message)
    else:
        message = f"{type(error).__name__}: {error}"
    return message.strip()[:_MAX_ERROR_CHARACTERS]


def _to_json(value: Any) -> Any:
    """Return a JSON value for an object that some models put into their replies."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if hasattr(value, "model_dump"):
        return value.model_dump()
    return str(value)
