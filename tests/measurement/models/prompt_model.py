"""A model with the signature `prompt: string -> string` that repeats the prompt."""

import mlflow
from mlflow.pyfunc.model import PythonModel


class Echo(PythonModel):
    def predict(self, context, model_input, params=None):  # MLflow would read type hints
        return list(model_input["prompt"])


mlflow.models.set_model(Echo())
