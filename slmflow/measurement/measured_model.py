"""What is measured: the flavors of a model, or any logged chat model."""

from dataclasses import dataclass
from typing import Self

import mlflow

from slmflow.pipeline import model_uris
from slmflow.pipeline.results import LoggedModel


@dataclass(frozen=True)
class MeasuredModel:
    """An MLflow model to measure; `flavor` is what the comparison calls it, model_id may be ''."""

    flavor: str
    model_uri: str
    model_id: str
    size_bytes: int

    @classmethod
    def of(cls, logged: LoggedModel) -> Self:
        """Return a flavor that a step has logged."""
        return cls(logged.flavor, logged.model_uri, logged.model_id, logged.size_bytes)

    @classmethod
    def at(cls, model_uri: str) -> Self:
        """Return the model of an address that MLflow knows, `models:/...`, `runs:/...` or a folder.

        It is called what it was logged as. Raises BadArguments where there is none.
        """
        model = model_uris.read("evaluation.model_uri", model_uri)
        name = mlflow.get_logged_model(model.model_id).name if model.model_id else None
        named = [flavor for flavor in model.flavors if flavor != "python_function"]
        size = model.model_size_bytes or 0
        return cls(name or (named or ["pyfunc"])[0], model_uri, model.model_id or "", size)
