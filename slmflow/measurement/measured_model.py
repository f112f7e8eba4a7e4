"""The models to measure: the flavors of a model, or any logged chat model."""

from dataclasses import dataclass
from typing import Self

import mlflow

from slmflow.pipeline import model_uris, run_links
from slmflow.pipeline.results import LoggedModel


@dataclass(frozen=True)
class MeasuredModel:
    """An MLflow model to measure.

    flavor: its name in the comparison; model_id: empty if the model is not a logged model; key: of
    all that shapes its answers besides the request, empty if unknown; model_name: `model.name` of
    the config, or the URI of a model from elsewhere; scores_key: of all that shapes its
    likelihoods, empty if that is not less.
    """

    flavor: str
    model_uri: str
    model_id: str
    size_bytes: int
    key: str = ""
    model_name: str = ""
    scores_key: str = ""

    @classmethod
    def from_logged(
        cls, logged: LoggedModel, key: str = "", model_name: str = "", scores_key: str = ""
    ) -> Self:
        """Return a flavor that a step logged; key: of the step's result."""
        return cls(
            *(logged.flavor, logged.model_uri, logged.model_id, logged.size_bytes),
            key=key,
            model_name=model_name,
            scores_key=scores_key,
        )

    @classmethod
    def from_uri(cls, model_uri: str) -> Self:
        """Return the model at an MLflow URI: `models:/...`, `runs:/...` or a folder.

        Its name is its flavor if slmflow logged it, else the one it was logged under. Raises
        BadArguments if there is no model.
        """
        model = model_uris.load_metadata("evaluation.model_uri", model_uri)
        logged = mlflow.get_logged_model(model.model_id) if model.model_id else None
        name = logged and logged.tags.get(run_links.FLAVOR_TAG, logged.name)
        flavors = [flavor for flavor in model.flavors if flavor != "python_function"]
        size = model.model_size_bytes or 0
        return cls(
            flavor=name or (flavors or ["pyfunc"])[0],
            model_uri=model_uri,
            model_id=model.model_id or "",
            size_bytes=size,
            key=model.model_uuid or "",
            model_name=model_uri,
        )
