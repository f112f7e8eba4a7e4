"""Log a checkpoint as an MLflow model: the transformers pipeline under `llm/v1/chat`."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from yaml import YAMLError

from slmflow.config.schema.generation import Generation
from slmflow.console import messages
from slmflow.console.library_output import silence
from slmflow.errors import UserError
from slmflow.flavors import log_model
from slmflow.flavors.pins import pin_installed
from slmflow.flavors.provenance import Provenance
from slmflow.pipeline.results import TransformersModel

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

CHECKPOINT_FOLDER = "model"
"""Folder inside the model where MLflow puts the checkpoint."""

_REQUIRED_PACKAGES = ("mlflow", "numpy", "pandas", "torch", "transformers")


def log(folder: Path, provenance: Provenance, generation: Generation) -> TransformersModel:
    """Log the checkpoint in `folder` to the active run.

    The folder is copied as it is; the model is never loaded. generation: defaults for requests
    that leave options out. Raises UserError for a model that needs custom code.
    """
    _disable_hub()
    _check_architecture(folder)
    with silence():  # MLflow's warnings (no licence on the hub, no pip to pin) need no action
        info = log_model.log_with_provenance(
            mlflow.transformers,
            provenance,
            name=TransformersModel.flavor,
            transformers_model=str(folder.absolute()),
            task="llm/v1/chat",
            model_config=pipeline_options(generation),
            input_example=log_model.CHAT_EXAMPLE,
            pip_requirements=pin_installed(*_REQUIRED_PACKAGES),
            model_card=_model_card(folder),
        )
    return TransformersModel.from_info(info)


def _disable_hub() -> None:
    """Put huggingface_hub in offline mode; it reads the variable when it is first imported.

    Not earlier: steps launched by this one inherit its environment, and fetch needs the hub. MLflow
    also looks up card and licence of the model under its absolute path, which is no valid hub id,
    so no request is sent.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"


def _model_card(folder: Path) -> "ModelCard | None":
    from huggingface_hub import ModelCard

    readme = folder / "README.md"
    if not readme.is_file():
        return None
    try:
        card: ModelCard = ModelCard.load(readme, ignore_metadata_errors=True)
        return card
    except (ValueError, YAMLError, RecursionError) as error:
        messages.warning(
            f"the model is logged without its card: the front matter of {readme} is not valid "
            f"YAML ({type(error).__name__})"
        )
        return None


def _check_architecture(folder: Path) -> None:
    """Raise UserError unless the model's class is part of transformers.

    MLflow loads any other with `trust_remote_code=True`: wherever the model is served, code named
    in `auto_map` would run, even from another repository.
    """
    import transformers

    names = json.loads((folder / "config.json").read_bytes()).get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if not isinstance(name, str) or not hasattr(transformers, name):
        raise UserError(
            f"{folder / 'config.json'}: architectures={names!r} does not start with a class of "
            "transformers, so the model needs custom code, which slmflow never runs: choose a "
            "model that transformers supports"
        )


def pipeline_options(generation: Generation) -> dict[str, Any]:
    """Return the generation options under transformers' names.

    Greedy decoding unsets the sampling options; otherwise transformers warns in every process
    about the values that the pipeline and the model's generation config have for them.
    """
    options: dict[str, Any] = {"max_new_tokens": generation.max_new_tokens}
    if generation.temperature == 0:
        return options | {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    return options | {
        "do_sample": True,
        "temperature": generation.temperature,
        "top_p": generation.top_p,
    }
