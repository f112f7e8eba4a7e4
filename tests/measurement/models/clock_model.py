"""A chat model that answers with the time of the request, in nanoseconds."""

import time

import mlflow
from mlflow.pyfunc.model import PythonModel


class Clock(PythonModel):
    def predict(self, context, model_input, params=None):  # MLflow would read type hints
        return [{"choices": [{"message": {"content": str(time.monotonic_ns())}}]}]


mlflow.models.set_model(Clock())
