"""The lineage of what is made from a model in MLflow: the version and the run it came from."""

import re
from collections.abc import Mapping
from urllib.parse import quote

from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from slmflow.config.schema.model import Model, Source
from slmflow.pipeline import model_uris, run_links

_VERSION = re.compile(r"models:/(?P<name>[^/@]+)/(?P<number>\d+)")

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
    run_links.log_models_in([origin(model).get("model_id")])


def model_tags(origin: Mapping[str, str | None]) -> dict[str, str]:
    """Return the tags of a logged model with this origin.

    One is the description, which the UI shows on the model's page, where it shows no other tags.
    """
    uri = origin.get("uri")
    tags = {SOURCE_URI_TAG: uri, SOURCE_ID_TAG: origin.get("model_id")}
    tags[MLFLOW_RUN_NOTE] = uri and f"Made from {_link(uri)}."
    return {name: value for name, value in tags.items() if value}


def _link(uri: str) -> str:
    """Return Markdown that links a registered version to its page in the UI."""
    if version := _VERSION.fullmatch(uri):
        return f"[{uri}](#/models/{quote(version['name'])}/versions/{version['number']})"
    return f"`{uri}`"
