"""The reference: transformers' own model of a checkpoint, as a module tree without weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.initialization import no_init_weights

from slmflow.checkpoints import tensors, tokenizer_files
from slmflow.console import messages
from slmflow.console.library_output import silence
from slmflow.conversion.genai_builder import architecture_names
from slmflow.errors import UserError


@dataclass(frozen=True)
class ReferenceModel:
    """Tokenizer and module tree of a model.

    model: a PreTrainedModel for causal language modelling in fp32 and eval mode, its parameters and
    persistent buffers on the meta device. Buffers that depend on the config alone, such as rotary
    frequencies, have their values.
    """

    tokenizer: Any
    model: Any


def load(weights: Path) -> ReferenceModel:
    """Load tokenizer and config of a checkpoint; its weights are not read.

    Raises UserError for a model that transformers cannot load.
    """
    try:
        with silence():
            reference_tokenizer = tokenizer_files.load(weights)
            config = AutoConfig.from_pretrained(
                weights, local_files_only=True, trust_remote_code=False
            )
            model = build_without_weights(config)
    except Exception as error:  # tokenizers raises nothing more specific
        raise UserError(
            f"transformers cannot load the model ({architecture_names(weights)}): "
            f"{(str(error) or repr(error)).splitlines()[0][:200]}. Check that config.json, the "
            "tokenizer and the weights belong together and are a causal language model"
        ) from error
    if tensors.has_untied_values(weights, model):
        messages.warning(
            "config.json ties the word embeddings, but the files have other values for the LM "
            "head: both are used, as by transformers. Set tie_word_embeddings=false in config.json "
            "to confirm that"
        )
        config.tie_word_embeddings = False
        model = build_without_weights(config)
    return ReferenceModel(reference_tokenizer, model)


def is_large(model: Any) -> bool:
    """Return whether a model has a billion parameters, so that each token takes long."""
    return sum(int(parameter.numel()) for parameter in model.parameters()) >= 10**9


def build_without_weights(config: Any) -> Any:
    """Build transformers' causal language model of a config, as in `ReferenceModel.model`."""
    # Only the eager code caps attention scores; sdpa leaves the cap out.
    is_eager = getattr(config, "attn_logit_softcapping", None) is not None
    with init_empty_weights(include_buffers=False), no_init_weights():
        model = AutoModelForCausalLM.from_config(
            config,
            dtype=torch.float32,
            trust_remote_code=False,
            attn_implementation="eager" if is_eager else None,
        )
    model.tie_weights()  # again: the move to the meta device has untied them
    return model.eval()
