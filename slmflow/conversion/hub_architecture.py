"""Check the architecture of a model on the hub before its weights are downloaded."""

import tempfile
from pathlib import Path

from slmflow.checkpoints import files, hub_model
from slmflow.config.schema.config import Config
from slmflow.config.schema.model import Model, Source
from slmflow.errors import UserError
from slmflow.pipeline import store


def check(config: Config, weights_key: str) -> None:
    """Raise UserError for a model on the hub whose architecture the exporter does not support.

    weights_key: the key of the model's `Weights`; nothing is done if the store has them.
    """
    match config.model:
        case Model(source=Source.hub, id=str(model_id), revision=str(revision)):
            if store.has("weights", weights_key):
                return
            try:
                with tempfile.TemporaryDirectory() as folder:
                    model = hub_model.repository(model_id, revision)
                    hub_model.download_config(model, Path(folder))
                    content = files.read_json_object(Path(folder) / files.CONFIG, model.name)
            except UserError:
                return  # `fetch` reports it, after its warnings of the licence
            # Imports torch, which takes seconds.
            from slmflow.conversion import supported_models

            supported_models.check_config(content, config.exporter.name)
