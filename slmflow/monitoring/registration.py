"""What was measured of a version when it was registered, from its tags and runs."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from slmflow.config.schema.config import Config
from slmflow.errors import BadArguments, UserError
from slmflow.measurement import records
from slmflow.monitoring import figures
from slmflow.monitoring.figures import Figures
from slmflow.pipeline import model_uris, registered_models
from slmflow.pipeline.registered_models import TAG_PREFIX
from slmflow.pipeline.results import Measurements


@dataclass(frozen=True)
class Registration:
    """A version: its URI, the id of its logged model, and its figures when it was registered."""

    model_uri: str
    model_id: str
    figures: Figures


def read(config: Config) -> Registration:
    """Return the registration of `drift.model_uri`.

    Raises UserError if it is no version that slmflow registered, or its measurement is gone.
    """
    key = "drift.model_uri"
    model_uri = model_uris.pin(key, model_uris.resolve(config.drift.model_uri, config))
    name, _, number = model_uri.removeprefix("models:/").rpartition("/")
    if not (name and number.isdecimal() and model_uri.startswith("models:/")):
        raise BadArguments(
            f"{key}={model_uri!r}: only a registered version has figures to compare with; give "
            "models:/NAME/VERSION or models:/NAME@ALIAS"
        )
    model_id = model_uris.load_metadata(key, model_uri).model_id
    version = registered_models.version(name, number)
    if not model_id:
        raise UserError(f"{model_uri} is no logged model of MLflow 3, which traces could name")
    return Registration(model_uri, model_id, _figures(model_uri, version, config.drift.refusals))


def _figures(model_uri: str, version: ModelVersion, refusals: Sequence[str]) -> Figures:
    run_id = version.tags.get(f"{TAG_PREFIX}run_measure")
    flavor = version.tags.get(f"{TAG_PREFIX}flavor")
    if run_id is None:
        raise UserError(
            f"{model_uri} has no tag {TAG_PREFIX}run_measure: only a version that slmflow "
            "registered has figures to compare with; register it with -e register"
        )
    try:
        logged = mlflow.artifacts.load_dict(f"runs:/{run_id}/{Measurements.artifact}")
        measured = records.from_json(logged)
    except (MlflowException, OSError, KeyError, TypeError) as error:
        raise UserError(
            f"the measurement of {model_uri} (run {run_id}) cannot be read: "
            f"{str(error).splitlines()[0]}. Register the version again with -e register"
        ) from error
    own = next((each for each in measured if each.model.flavor == flavor), None)
    if own is None:
        raise UserError(f"run {run_id} has no measurement of {flavor}, the flavor of {model_uri}")
    metrics = {}
    for name in ("exact_match", "token_f1"):
        with suppress(KeyError, ValueError):
            if isfinite(value := float(version.tags[TAG_PREFIX + name])):
                metrics[name] = value
    return figures.of_measurement(own, metrics, refusals)
