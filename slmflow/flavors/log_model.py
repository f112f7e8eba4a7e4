"""Log an MLflow model with its provenance in it."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from mlflow import MlflowClient
from mlflow.models import Model
from mlflow.models.model import ModelInfo

from slmflow.console import messages
from slmflow.flavors.provenance import FILES, Provenance
from slmflow.pipeline.store import sha256

SUMS = "slmflow.sums"
"""The tag of a logged model that has the sha256 of its `provenance/files.json`."""


class _Flavor:
    """What `Model.log` calls a flavor: its `save_model`, and then the provenance beside."""

    def __init__(self, flavor: ModuleType, provenance: Provenance) -> None:
        self._flavor, self._provenance = flavor, provenance
        self.__name__ = flavor.__name__
        self.sums = ""

    def save_model(
        self, path: str, mlflow_model: Model, validate_serving_input: bool, **options: Any
    ) -> None:
        self._flavor.save_model(path=path, mlflow_model=mlflow_model, **options)
        for compiled in list(Path(path).rglob("__pycache__")):
            shutil.rmtree(compiled)
        logged = replace(
            self._provenance, model_id=mlflow_model.model_id or "", run_id=mlflow_model.run_id
        )
        logged.write(Path(path))
        self.sums = sha256(Path(path) / FILES)


def log(flavor: ModuleType, provenance: Provenance, **options: Any) -> ModelInfo:
    """Log a model to the active run as `flavor.log_model(**options)` does, provenance and all.

    The sum of its sums is a tag of the logged model: one who alters files and their sums where
    models lie has yet to alter the tracking server. MLflow's trial of the example is left out: it
    loads the model once more, only warns, and may write to what is summed already.
    """
    saving = _Flavor(flavor, provenance)
    info: ModelInfo = Model.log(
        artifact_path=None, flavor=saving, validate_serving_input=False, **options
    )
    MlflowClient().set_logged_model_tags(info.model_id, {SUMS: saving.sums})
    messages.say(f"logged as {info.model_uri}")
    return info
