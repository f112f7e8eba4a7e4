"""Log a checkpoint as an MLflow model: the transformers pipeline under `llm/v1/chat`.

A base model, which has no chat template, is logged under the task `text-generation`, with the
signature `prompt: string -> string`.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.exceptions import MlflowException
from yaml import YAMLError

from slmflow.checkpoints import chat_template, generation_settings, tokenizer_files
from slmflow.config.schema.generation import Generation
from slmflow.console import messages
from slmflow.console.library_output import silence
from slmflow.errors import UserError
from slmflow.flavors import log_model, pipeline_tokenizer
from slmflow.flavors.chat_interfaces import BASE_MODEL_METADATA, REASONING_METADATA
from slmflow.flavors.pins import pin_installed
from slmflow.flavors.provenance import Provenance
from slmflow.pipeline import run_links
from slmflow.pipeline.results import TransformersModel
from slmflow.runtime.generation.checkpoint_settings import SAMPLING
from slmflow.runtime.generation.reasoning import ReasoningFormat
from slmflow.runtime.prompts.message_encoder import TemplatePromptEncoder

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

CHECKPOINT_FOLDER = "model"
"""Folder inside the model where MLflow puts the checkpoint."""

_REQUIRED_PACKAGES = ("mlflow", "numpy", "pandas", "torch", "transformers")


def log(
    folder: Path,
    provenance: Provenance,
    generation: Generation,
    adapter: Path | None = None,
    name: str = TransformersModel.flavor,
) -> TransformersModel:
    """Log the checkpoint in `folder` to the active run.

    The folder is copied as it is; the model is never loaded. generation: defaults for requests
    that leave options out; adapter: folder of one that is merged into the copy; name: of the
    logged model. Raises UserError for a model that needs custom code.
    """
    _disable_hub()
    _check_architecture(folder)
    prompts = TemplatePromptEncoder(folder)
    reasoning = prompts.reasoning.format(_example_prompt(prompts, generation))
    # The continuation of a prompt is not split, so it has the same text as in the other flavor.
    visible_tokens = reasoning.tag_tokens.values() if prompts.takes_messages else ()

    def adapt(saved: Path) -> None:
        pipeline_tokenizer.adapt(saved, generation.template, visible_tokens)
        if adapter is not None:
            # Imported here, because only an adapter needs torch here.
            from slmflow.checkpoints.adapters import lora, merged_files

            merged_files.merge(
                saved / CHECKPOINT_FOLDER, lora.LoraAdapter.read(adapter, str(adapter))
            )

    # MLflow's warnings (no licence on the hub, no pip to pin) need no action.
    with silence(), tokenizer_files.honor_declared_class():
        info = log_model.log_with_provenance(
            mlflow.transformers,
            provenance,
            adapt=adapt,
            name=log_model.valid_name(name),
            tags={run_links.FLAVOR_TAG: TransformersModel.flavor},
            transformers_model=str(folder.absolute()),
            torch_dtype="torch.float32",  # transformers 5 would compute as the weights are stored
            **_task_options(folder, generation, reasoning),
            pip_requirements=pin_installed(*_REQUIRED_PACKAGES),
            model_card=_model_card(folder),
        )
    return TransformersModel.from_info(info)


def _task_options(
    folder: Path, generation: Generation, reasoning: ReasoningFormat
) -> dict[str, Any]:
    """Return the options of `mlflow.transformers.log_model` that depend on the chat template."""
    options = pipeline_options(generation, generation_settings.read(folder, str(folder)))
    if chat_template.is_missing(folder):
        return {
            "task": "text-generation",
            "model_config": options | {"return_full_text": False},
            "signature": log_model.PROMPT_SIGNATURE,
            "input_example": log_model.PROMPT_EXAMPLE,
            "metadata": BASE_MODEL_METADATA,
        }
    return {
        "task": "llm/v1/chat",
        # MLflow renders the chat template, which adds BOS, and tokenizes the text.
        "model_config": options | {"add_special_tokens": False},
        "input_example": log_model.CHAT_EXAMPLE,
        "metadata": {REASONING_METADATA: reasoning.to_json()},
    }


def _example_prompt(prompts: TemplatePromptEncoder, generation: Generation) -> list[int]:
    """Return the token ids of a question; none where the template rejects it."""
    try:
        return prompts.encode_chat(log_model.QUESTION, generation.template)
    except MlflowException:
        return []


def _disable_hub() -> None:
    """Put huggingface_hub in offline mode, here and in child processes.

    Not earlier: steps launched by this one inherit its environment, and fetch needs the hub. MLflow
    also looks up card and licence of the model under its absolute path, which is no valid hub id,
    so no request is sent.
    """
    from huggingface_hub import constants

    os.environ["HF_HUB_OFFLINE"] = "1"  # read when it is first imported
    constants.HF_HUB_OFFLINE = True


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


def pipeline_options(generation: Generation, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the generation options under transformers' names.

    settings: those of the checkpoint, which the pipeline follows by itself. Repeated here are those
    that it needs in another form. Greedy decoding unsets the sampling options; otherwise
    transformers warns in every process about the values that the pipeline and the model's
    generation config have for them.
    """
    options: dict[str, Any] = {"max_new_tokens": generation.max_new_tokens}
    if isinstance(penalty := settings.get("repetition_penalty"), int):
        options["repetition_penalty"] = float(penalty)
    if stop := settings.get("stop_strings"):
        options["stop_sequence"] = stop
    if generation.temperature == 0:
        unset = {"temperature", "top_p", "top_k", *settings.keys() & SAMPLING}
        return options | {"do_sample": False} | dict.fromkeys(sorted(unset))
    options |= {
        "do_sample": True,
        "temperature": generation.temperature,
        "top_p": generation.top_p,
    }
    if settings.get("top_k", 0) < 0:  # many configs mean no limit by -1
        options["top_k"] = 0
    return options
