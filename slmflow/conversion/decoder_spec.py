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

    path: module path in the checkpoint, such as model.layers.0.self_attn; output: name of its
    output projection; window: sliding window in positions, the token itself included, None for full
    attention; softcap: limit of the attention scores, 0 for none; rotary: key in
    `DecoderSpec.rotary_caches`, None without rotary embedding; heads_first: whether the query and
    key norms, if any, return [batch, heads, sequence, head size] rather than [batch, sequence,
    heads, head size]; interleaved: whether the rotary embedding pairs neighboring elements rather
    than the halves of a head.
    """

    path: str
    output: str
    heads: int
    kv_heads: int
    head_size: int
    scale: float
    window: int | None
    softcap: float
    rotary: str | None
    heads_first: bool
    interleaved: bool


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
    supported = [(path, module) for path, module in attentions if type(module).__name__ in _CLASSES]
    rotary_names = {name for _, module in supported if (name := _rotary_name(module))}
    return DecoderSpec(
        layers=model.config.num_hidden_layers,
        attentions=tuple(_attention_spec(path, module) for path, module in supported),
        rotary_caches={name: _rotary_cache(model, name) for name in sorted(rotary_names)},
        norms=tuple(_norm_specs(model)),
        unsupported=frozenset(_unsupported(model, [module for _, module in attentions])),
    )


def is_described(attention_class: str) -> bool:
    """Return whether an attention class of transformers can be described, and so fused."""
    return attention_class in _CLASSES


def _unsupported(model: PreTrainedModel, attentions: Sequence[nn.Module]) -> Iterator[str]:
    for module in attentions:
        if (name := type(module).__name__) not in _CLASSES:
            yield name
        elif getattr(module.config, "clip_qkv", None) is not None:
            yield f"{name} with clip_qkv"
    for rope_type in rotary.rope_types(model.config) - _ROPE_TYPES:
        yield f"a rotary embedding of type {rope_type}"


@dataclass(frozen=True)
class _AttentionClass:
    """How an attention class of transformers differs from Llama's.

    window: the attribute that holds the sliding window; output: name of the output projection;
    heads_first: it normalizes queries and keys after the transposition; interleaved: its rotary
    embedding pairs neighbors rather than halves; layer_type: the attribute that holds the type of
    the layer, if the rotary embedding depends on it.
    """

    window: str | None = None
    output: str = "o_proj"
    heads_first: bool = False
    interleaved: bool = False
    layer_type: str | None = None


_LIKE_LLAMA = _AttentionClass()
_CONFIG_WINDOW = _AttentionClass(window="config.sliding_window")
_LAYER_WINDOW = _AttentionClass(window="sliding_window")

_CLASSES: Mapping[str, _AttentionClass] = {
    "Ernie4_5Attention": _AttentionClass(interleaved=True),
    "GemmaAttention": _LIKE_LLAMA,
    "Gemma2Attention": _LAYER_WINDOW,
    "Gemma3Attention": _AttentionClass("sliding_window", heads_first=True, layer_type="layer_type"),
    "GraniteAttention": _LIKE_LLAMA,
    "LlamaAttention": _LIKE_LLAMA,
    "MistralAttention": _CONFIG_WINDOW,
    "NemotronAttention": _LIKE_LLAMA,
    "OlmoAttention": _LIKE_LLAMA,
    "Olmo2Attention": _LIKE_LLAMA,
    "Olmo3Attention": _AttentionClass("sliding_window", layer_type="attention_type"),
    "PhiAttention": _AttentionClass(output="dense", heads_first=True),
    "Phi3Attention": _CONFIG_WINDOW,
    "Qwen2Attention": _LAYER_WINDOW,
    "Qwen3Attention": _LAYER_WINDOW,
    "SmolLM3Attention": _LAYER_WINDOW,
}

# Rotary types whose angles depend on the position alone, and LongRoPE, which has two sets of them.
_ROPE_TYPES = frozenset({"default", "linear", "llama3", "yarn", rotary.LONGROPE})


def _attention_spec(path: str, module: Any) -> AttentionSpec:
    heads = module.config.num_attention_heads
    kind = _CLASSES[type(module).__name__]
    return AttentionSpec(
        path=path,
        output=kind.output,
        heads=heads,
        kv_heads=heads // module.num_key_value_groups,
        head_size=module.head_dim,
        scale=module.scaling,
        window=attrgetter(kind.window)(module) if kind.window else None,
        softcap=getattr(module, "attn_logit_softcapping", None) or 0.0,
        rotary=_rotary_name(module),
        heads_first=kind.heads_first,
        interleaved=kind.interleaved,
    )


def _rotary_name(module: Any) -> str | None:
    """Return the name of an attention module's rotary embedding, with its layer type if any."""
    if not getattr(module, "use_rope", True):
        return None
    layer_type = _CLASSES[type(module).__name__].layer_type
    return f"rotary_emb.{getattr(module, layer_type)}" if layer_type else "rotary_emb"


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
