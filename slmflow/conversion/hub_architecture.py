"""Check the architecture of a model on the hub or in MLflow before its weights are downloaded."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from slmflow.checkpoints import files, hub_model
from slmflow.checkpoints.registry_model import RegistryModel
from slmflow.config.schema.config import Config
from slmflow.config.schema.model import Model, Source
from slmflow.errors import UserError
from slmflow.pipeline import entries


def check(config: Config, weights_key: str) -> None:
    """Raise UserError for a model whose architecture the exporter does not support.

    weights_key: of `keys.base_weights_key`; nothing is done if the store has those weights.
    """
    download = _config_download(config.model)
    if download is None or entries.has("weights", weights_key):
        return
    try:
        with tempfile.TemporaryDirectory() as folder:
            download(Path(folder))
            content = files.read_json_object(Path(folder) / files.CONFIG, config.model.name)
    except UserError:
        return  # `fetch` reports it, after its warnings of the licence
    # Imports torch, which takes seconds.
    from slmflow.conversion import supported_models

    supported_models.check_config(content, config.exporter.name)


def _config_download(model: Model) -> Callable[[Path], None] | None:
    """Return what downloads config.json to a folder; None for a model on this machine."""
    match model:
        case Model(source=Source.hub, id=str(model_id), revision=str(revision)):
            repository = hub_model.repository(model_id, revision)
            return lambda folder: hub_model.download_config(repository, folder)
        case Model(source=Source.mlflow, uri=str(uri)):
            return lambda folder: RegistryModel.read(uri).download_config(folder)
    return None
