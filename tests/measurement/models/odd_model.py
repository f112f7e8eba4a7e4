"""A model with a chat signature that returns numbers."""

import mlflow
from mlflow.pyfunc.model import PythonModel


class Odd(PythonModel):
    def predict(self, context, model_input, params=None):  # MLflow would read type hints
        return [42]


mlflow.models.set_model(Odd())
