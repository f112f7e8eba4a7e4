"""Log an MLflow model that contains its own provenance."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from mlflow import MlflowClient
from mlflow.models import Model, ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types.schema import ColSpec, Schema
from mlflow.utils import environment

from slmflow.console import messages
from slmflow.flavors import lineage
from slmflow.flavors.provenance import CHECKSUMS_FILE, Provenance
from slmflow.pipeline.digests import sha256

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
CHAT_EXAMPLE = {"messages": QUESTION, "max_tokens": 32}

PROMPT_EXAMPLE = {"prompt": "The capital of France is"}

PROMPT_SIGNATURE = ModelSignature(
    Schema([ColSpec("string", "prompt")]), Schema([ColSpec("string")])
)
"""The signature of a model that takes prompts: `prompt: string -> string`."""

CHECKSUMS_TAG = "slmflow.sums"
"""Tag of a logged model: the sha256 of its `provenance/files.json`."""


class _FlavorWithProvenance:
    """An MLflow flavor for `Model.log` whose `save_model` also writes the provenance."""

    def __init__(
        self, flavor: ModuleType, provenance: Provenance, adapt: Callable[[Path], None]
    ) -> None:
        self._flavor, self._provenance, self._adapt = flavor, provenance, adapt
        self.__name__ = flavor.__name__
        self.checksums_digest = ""

    def save_model(
        self, path: str, mlflow_model: Model, validate_serving_input: bool, **options: Any
    ) -> None:
        self._flavor.save_model(path=path, mlflow_model=mlflow_model, **options)
        self._adapt(Path(path))
        for bytecode in list(Path(path).rglob("__pycache__")):
            shutil.rmtree(bytecode)
        provenance = replace(
            self._provenance, model_id=mlflow_model.model_id or "", run_id=mlflow_model.run_id
        )
        provenance.write(Path(path))
        self.checksums_digest = sha256(Path(path) / CHECKSUMS_FILE)


def valid_name(name: str) -> str:
    """Return a name with `_` for each character that MLflow refuses in that of a logged model."""
    return re.sub(r"[/:.%\"']", "_", name)


def log_with_provenance(
    flavor: ModuleType,
    provenance: Provenance,
    adapt: Callable[[Path], None] = lambda folder: None,
    **options: Any,
) -> ModelInfo:
    """Log a model to the active run as `flavor.log_model(**options)` does, with its provenance.

    adapt: called with the folder of the saved model, before its checksums are taken.

    The digest of the checksum file becomes a tag of the logged model: whoever changes files and
    checksums in the artifact store would also have to change the tracking server. Of a model in
    MLflow, the tags also say which one the weights came from.

    MLflow's validation of the input example is skipped: it loads the model again, only warns, and
    may write to files whose checksums are already taken. So is its comparison of the requirements
    with what is installed, which reads the list of files of every package: they are pins of that.
    """
    wrapper = _FlavorWithProvenance(flavor, provenance, adapt)
    with _unchecked_requirements():
        info: ModelInfo = Model.log(
            artifact_path=None, flavor=wrapper, validate_serving_input=False, **options
        )
    tags = {CHECKSUMS_TAG: wrapper.checksums_digest, **lineage.model_tags(provenance.model)}
    MlflowClient().set_logged_model_tags(info.model_id, tags)
    messages.info(f"logged as {info.model_uri}")
    return info


@contextmanager
def _unchecked_requirements() -> Iterator[None]:
    name = "warn_dependency_requirement_mismatches"
    check = getattr(environment, name)
    setattr(environment, name, lambda requirements: None)
    try:
        yield
    finally:
        setattr(environment, name, check)
