"""What the graph passes need to know about a PyTorch model: attention, rotary caches, norms.

Only the attention classes listed here are described, each tested against transformers. A model
with any other class keeps the attention that optimum exports.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from slmflow.conversion import rotary
from slmflow.conversion.rotary import RotaryCache


@dataclass(frozen=True)
class AttentionSpec:
    """One attention module of a decoder.

    path: module path in the checkpoint, such as model.layers.0.self_attn; window: sliding window in
    positions, the token itself included, None for full attention; softcap: limit of the attention
    scores, 0 for none; rotary: key in `DecoderSpec.rotary_caches`, None without rotary embedding;
    heads_first: whether the query and key norms, if any, return [batch, heads, sequence, head size]
    rather than [batch, sequence, heads, head size].
    """

    path: str
    heads: int
    kv_heads: int
    head_size: int
    scale: float
    window: int | None
    softcap: float
    rotary: str | None
    heads_first: bool


@dataclass(frozen=True)
class NormSpec:
    """One RMS norm: its module path and epsilon."""

    path: str
    epsilon: float


@dataclass(frozen=True)
class DecoderSpec:
    """Description of a decoder; `unsupported` names attention classes and rotary types left out."""

    layers: int
    attentions: tuple[AttentionSpec, ...]
    rotary_caches: Mapping[str, RotaryCache]
    norms: tuple[NormSpec, ...]
    unsupported: frozenset[str]


def describe(model: PreTrainedModel) -> DecoderSpec:
    """Describe a causal language model of transformers without reading its parameters."""
    attentions = [
        (path, module) for path, module in model.named_modules() if path.endswith(".self_attn")
    ]
    supported = [
        (path, module) for path, module in attentions if type(module).__name__ in _WINDOW_ATTRIBUTES
    ]
    rotary_names = {name for _, module in supported if (name := _rotary_name(module))}
    return DecoderSpec(
        layers=model.config.num_hidden_layers,
        attentions=tuple(_attention_spec(path, module) for path, module in supported),
        rotary_caches={name: _rotary_cache(model, name) for name in sorted(rotary_names)},
        norms=tuple(_norm_specs(model)),
        unsupported=frozenset(_unsupported(model, [module for _, module in attentions])),
    )


def _unsupported(model: PreTrainedModel, attentions: Sequence[nn.Module]) -> Iterator[str]:
    for module in attentions:
        if (name := type(module).__name__) not in _WINDOW_ATTRIBUTES:
            yield name
    for rope_type in rotary.rope_types(model.config) - _ROPE_TYPES:
        yield f"a rotary embedding of type {rope_type}"


# The attribute of each attention class of transformers that holds its sliding window.
_WINDOW_ATTRIBUTES: Mapping[str, str | None] = {
    "Phi3Attention": "config.sliding_window",
    "LlamaAttention": None,
    "Qwen2Attention": "sliding_window",
    "Qwen3Attention": "sliding_window",
    "MistralAttention": "config.sliding_window",
    "SmolLM3Attention": "sliding_window",
    "GemmaAttention": None,
    "Gemma2Attention": "sliding_window",
    "Gemma3Attention": "sliding_window",
}

# These classes normalize queries and keys after the transposition; Qwen3Attention does it before.
_HEADS_FIRST = frozenset({"Gemma3Attention"})

# Rotary types whose angles depend on the position alone, and LongRoPE, which has two sets of them.
_ROPE_TYPES = frozenset({"default", "linear", "llama3", "yarn", rotary.LONGROPE})


def _attention_spec(path: str, module: Any) -> AttentionSpec:
    heads = module.config.num_attention_heads
    window = _WINDOW_ATTRIBUTES[type(module).__name__]
    return AttentionSpec(
        path=path,
        heads=heads,
        kv_heads=heads // module.num_key_value_groups,
        head_size=module.head_dim,
        scale=module.scaling,
        window=attrgetter(window)(module) if window else None,
        softcap=getattr(module, "attn_logit_softcapping", None) or 0.0,
        rotary=_rotary_name(module),
        heads_first=type(module).__name__ in _HEADS_FIRST,
    )


def _rotary_name(module: Any) -> str | None:
    """Return the name of an attention module's rotary embedding, with its layer type if any."""
    if not getattr(module, "use_rope", True):
        return None
    has_layer_types = type(module).__name__ == "Gemma3Attention"
    return f"rotary_emb.{module.layer_type}" if has_layer_types else "rotary_emb"


def _rotary_cache(model: PreTrainedModel, name: str) -> RotaryCache:
    attribute, _, layer_type = name.partition(".")
    embedding = getattr(model.model, attribute)
    return rotary.compute_cache(embedding, model.config, layer_type or None)


def _norm_specs(model: PreTrainedModel) -> Iterator[NormSpec]:
    for path, module in model.named_modules():
        if type(module).__name__.endswith("RMSNorm"):
            epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
            if epsilon is not None:
                yield NormSpec(path, epsilon)
