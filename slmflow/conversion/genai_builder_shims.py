"""What the model builder of onnxruntime-genai 0.18 needs for models of transformers 5.

Each function states its reason. They change the config that the builder has loaded, and its classes
while it runs; files and the installed package stay as they are.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from transformers import AutoModelForCausalLM

_QWEN3_5_TEXT = "qwen3_5_text"


def adapt(config: Any) -> None:
    """Change a model's config so that the builder writes the right graph."""
    _name_windowed_layers(config)
    _name_norm_epsilon(config)
    _flatten_rotary_parameters(config)
    _name_longrope(config)
    _choose_qwen3_5_class(config)


def adapt_for_config(config: Any) -> None:
    """Change any decoder's config so that the builder writes its genai_config.json.

    The builder has code for some architectures, which stops at settings that concern its own graph,
    such as a rotary type. For a class that it does not know it writes what all decoders share.
    """
    config.architectures = ["DecoderForCausalLM"]
    config.rope_parameters = {"rope_type": "default"}


@contextmanager
def corrected_classes(config: Any) -> Iterator[None]:
    """Correct the builder's classes while it writes the graph of this config."""
    smollm, olmo, base = (
        importlib.import_module(f"builders.{name}") for name in ("smollm", "olmo", "base")
    )
    with ExitStack() as stack:
        for owner, name, correct in (
            (smollm.SmolLM3Model, "make_attention", _without_rotary_embedding),
            (olmo.OLMoModel, "make_layernorm", _with_layer_norms),
        ):
            corrected = correct(getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, corrected))
        if config.model_type == _QWEN3_5_TEXT:
            # The multimodal class would not find the weights of a text model.
            name = "Qwen3_5ForConditionalGeneration"
            stack.enter_context(mock.patch.object(base, name, AutoModelForCausalLM))
        yield


def _name_windowed_layers(config: Any) -> None:
    """List the layers with a sliding window, where all layers have one.

    The builder takes the window only for layers that `layer_types` calls sliding. Phi-3 and Mistral
    have a window in all layers and no `layer_types`, and would lose it.
    """
    if getattr(config, "sliding_window", None) and getattr(config, "layer_types", None) is None:
        config.layer_types = ["sliding_attention"] * config.num_hidden_layers


def _name_norm_epsilon(config: Any) -> None:
    """Give the epsilon of the norms the only name that the builder reads.

    It uses 1e-6 otherwise, which Nemotron, Phi and OLMo do not.
    """
    text_config = config.get_text_config()
    if not hasattr(text_config, "rms_norm_eps"):
        names = ("norm_eps", "layer_norm_eps")
        epsilons = [getattr(text_config, name) for name in names if hasattr(text_config, name)]
        config.rms_norm_eps = epsilons[0] if epsilons else 1e-5  # OLMo's class has this one in code


def _flatten_rotary_parameters(config: Any) -> None:
    """Put Gemma 3's rotary parameters where transformers 4 had them, and the builder reads them.

    Version 5 nests them by layer type.
    """
    if config.model_type == "gemma3_text":
        by_layer_type = config.rope_parameters
        config.rope_local_base_freq = by_layer_type["sliding_attention"]["rope_theta"]
        config.rope_parameters = dict(by_layer_type["full_attention"])


def _name_longrope(config: Any) -> None:
    """Say whether a Phi-3 has LongRoPE in the way that the builder understands.

    It concludes that from an original length below the context length, and reads the type under
    transformers 4's name.
    """
    if config.model_type != "phi3":
        return
    rope_type = config.rope_parameters["rope_type"]
    config.rope_parameters = config.rope_parameters | {"type": rope_type}
    if rope_type == "default":
        config.original_max_position_embeddings = config.max_position_embeddings


def _choose_qwen3_5_class(config: Any) -> None:
    """Name the class of Qwen3.5 that the builder knows: the multimodal one.

    It builds only the text model of it.
    """
    if config.model_type == _QWEN3_5_TEXT:
        config.architectures = ["Qwen3_5ForConditionalGeneration"]


def _without_rotary_embedding(make_attention: Callable[..., None]) -> Callable[..., None]:
    """Leave the rotary embedding out of the layers of SmolLM3 that have none.

    The builder adds it as an operator of its own, whose position ids are no input of the graph.
    """

    def corrected(self: Any, layer_id: int, *args: Any, **kwargs: Any) -> None:
        self.attention_attrs["rope"] = bool(self.no_rope_layers[layer_id])
        make_attention(self, layer_id, *args, **kwargs)

    return corrected


def _with_layer_norms(make_layernorm: Callable[..., None]) -> Callable[..., None]:
    """Write the layer norms of OLMo: the builder writes RMS norms, which keep the mean."""

    def corrected(self: Any, layer_id: int, norm: Any, **options: Any) -> None:
        make_layernorm(self, layer_id, norm, **options | {"simple": False})

    return corrected
