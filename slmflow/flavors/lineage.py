"""The lineage of what is made from a model in MLflow: the version and the run it came from."""

from collections.abc import Mapping
from contextlib import suppress

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelInput
from mlflow.exceptions import MlflowException

from slmflow.config.schema.model import Model, Source
from slmflow.pipeline import model_uris

SOURCE_URI_TAG = "slmflow.source_uri"
"""Tag of a logged model: the URI of the model whose weights it has."""

SOURCE_ID_TAG = "slmflow.source_model_id"
"""Tag of a logged model: the id of that model, `m-...`."""


def origin(model: Model) -> dict[str, str]:
    """Return where the weights of a model in MLflow come from; empty for any other model.

    uri: of the version or logged model; model_id: its id on the tracking server; run_id: the run
    that logged it; id, revision: the commit on the hub that has the weights, if it names one.
    """
    if model.source is not Source.mlflow or model.uri is None:
        return {}
    # Imported here, because it imports the client of the hub.
    from slmflow.checkpoints.registry_model import RegistryModel

    metadata = model_uris.load_metadata("model.uri", model.uri)
    base = RegistryModel.read(model.uri).base
    known = {
        "uri": model.uri,
        "model_id": metadata.model_id,
        "run_id": metadata.run_id,
        "id": base and base.id,
        "revision": base and base.revision,
    }
    return {name: str(value) for name, value in known.items() if value}


def log_input(model: Model) -> None:
    """Log a model in MLflow as an input of the active run: the UI shows it on the run's page."""
    model_id, run = origin(model).get("model_id"), mlflow.active_run()
    if model_id is None or run is None:
        return
    client = MlflowClient()
    with suppress(MlflowException):  # the registry may be of another server than the run
        client.get_logged_model(model_id)
        client.log_inputs(run.info.run_id, models=[LoggedModelInput(model_id)])


def model_tags(origin: Mapping[str, str | None]) -> dict[str, str]:
    """Return the tags of a logged model with this origin."""
    tags = {SOURCE_URI_TAG: origin.get("uri"), SOURCE_ID_TAG: origin.get("model_id")}
    return {name: value for name, value in tags.items() if value}
