"""A folder of weights to a logged MLflow model: the transformers pipeline under `llm/v1/chat`."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from yaml import YAMLError

from slmflow.config.schema.generation import Generation
from slmflow.console import messages
from slmflow.console.messages import quiet
from slmflow.errors import UserError
from slmflow.flavors import log_model
from slmflow.flavors.pins import installed
from slmflow.flavors.provenance import Provenance
from slmflow.flavors.transformers_result import TransformersModel

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

CHECKPOINT = "model"
"""Where MLflow puts a checkpoint in the model."""

# What loads and runs the pipeline.
_IMPORTED = ("mlflow", "numpy", "pandas", "torch", "transformers")
_EXAMPLE = {
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 32,
}


def log(folder: Path, provenance: Provenance, generation: Generation) -> TransformersModel:
    """Log the model in `folder`, a hub snapshot's layout, to the active run; say where it is.

    The folder is copied as it is, never loaded. `generation` holds for requests that do not say.
    Raises UserError for a model that needs code of its own.
    """
    _keep_off_the_hub()
    _refuse_code(folder)
    with quiet():  # of no use: there is no licence at the hub, no pip to pin
        info = log_model.log(
            mlflow.transformers,
            provenance,
            name=TransformersModel.flavor,
            transformers_model=str(folder.absolute()),
            task="llm/v1/chat",
            model_config=pipeline_options(generation),
            input_example=_EXAMPLE,
            pip_requirements=installed(*_IMPORTED),
            model_card=_model_card(folder),
        )
    return TransformersModel.of(info)


def _keep_off_the_hub() -> None:
    """Forbid the hub to huggingface_hub, which reads this when it is first imported.

    Here and not sooner: the steps that this step launches inherit its environment, and fetch needs
    the hub. MLflow asks it for cards and licences of a model given by an absolute path too, but
    such a path is no hub id and goes nowhere.
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
        messages.warn(
            f"the model is logged without its card: the head of {readme} is not the YAML of one "
            f"({type(error).__name__})"
        )
        return None


def _refuse_code(folder: Path) -> None:
    """Raise UserError for a class that is not transformers' own.

    MLflow loads such a model with `trust_remote_code=True`: code of `auto_map` would run, also of
    another repository, wherever the model is served.
    """
    import transformers

    names = json.loads((folder / "config.json").read_bytes()).get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if not isinstance(name, str) or not hasattr(transformers, name):
        raise UserError(
            f"{folder / 'config.json'}: architectures={names!r} begins with no class of "
            "transformers, so the model would need code of its makers, which is never run here: "
            "choose a model that transformers knows"
        )


def pipeline_options(generation: Generation) -> dict[str, Any]:
    """Return the options under the names of transformers.

    Greedy unsets what only sampling reads, or every process that answers warns of the values that
    the pipeline and the model's own generation config have for it.
    """
    options: dict[str, Any] = {"max_new_tokens": generation.max_new_tokens}
    if generation.temperature == 0:
        return options | {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    return options | {
        "do_sample": True,
        "temperature": generation.temperature,
        "top_p": generation.top_p,
    }
