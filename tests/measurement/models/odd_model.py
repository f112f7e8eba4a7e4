"""A model that says it is a chat model, and answers with numbers."""

import mlflow
from mlflow.pyfunc.model import PythonModel


class Odd(PythonModel):
    def predict(self, context, model_input, params=None):  # MLflow would read type hints
        return [42]


mlflow.models.set_model(Odd())
