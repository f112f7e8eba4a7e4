"""A chat model that renames the folder in the question and puts a file in its place."""

from pathlib import Path

import mlflow
from mlflow.pyfunc.model import PythonModel


class Hider(PythonModel):
    def predict(self, context, model_input, params=None):  # MLflow would read type hints
        folder = Path(model_input["messages"][0][-1]["content"])
        if folder.is_dir():
            folder.rename(folder.with_suffix(".hidden"))
            folder.write_text("")
        return [{"choices": [{"message": {"content": "done"}}]}]


mlflow.models.set_model(Hider())
