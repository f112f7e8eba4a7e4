"""What the graph passes must know of the PyTorch model: attention, rotary caches, norms.

Only attention classes that are listed here, and tested against transformers, are described; others
stay as optimum exports them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

Cache = NDArray[np.float32]


@dataclass(frozen=True)
class Rotary:
    """Caches of one rotary embedding, float32 [positions, rotary size / 2], its scaling inside.

    switch: with LongRoPE, the length up to which the first `switch` rows of the caches hold; for
    anything longer the rows after them do, counted from zero again. 0: one cache for all lengths.
    """

    cos: Cache
    sin: Cache
    switch: int = 0


@dataclass(frozen=True)
class Attention:
    """One attention module of a decoder.

    path: as in the checkpoint, e.g. model.layers.0.self_attn; window: how many positions a token
    sees, itself included, None for all; softcap: 0 for none; rotary: name in `Decoder.rotaries`,
    None where positions are not encoded; heads_first: norms of queries and keys, if there are any,
    give [batch, heads, sequence, head size], not [batch, sequence, heads, head size].
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
class Norm:
    """One RMS norm: its path and epsilon."""

    path: str
    epsilon: float


@dataclass(frozen=True)
class Decoder:
    """What is known of a model; `unknown` names what is not: classes of attention, rotary types."""

    layers: int
    attentions: tuple[Attention, ...]
    rotaries: Mapping[str, Rotary]
    norms: tuple[Norm, ...]
    unknown: frozenset[str]


def describe(model: PreTrainedModel) -> Decoder:
    """Describe a causal language model of transformers; its parameters are not looked at."""
    found = [
        (path, module) for path, module in model.named_modules() if path.endswith(".self_attn")
    ]
    known = [(path, module) for path, module in found if type(module).__name__ in _ATTENTION]
    names = {name for _, module in known if (name := _rotary_name(module)) is not None}
    return Decoder(
        layers=model.config.num_hidden_layers,
        attentions=tuple(_attention(path, module) for path, module in known),
        rotaries={name: _rotary(model, name) for name in sorted(names)},
        norms=tuple(_norms(model)),
        unknown=frozenset(_unknown(model, [module for _, module in found])),
    )


def _unknown(model: PreTrainedModel, modules: Sequence[nn.Module]) -> Iterator[str]:
    for module in modules:
        if (kind := type(module).__name__) not in _ATTENTION:
            yield kind
    for name, module in model.named_modules():
        if (rope := getattr(module, "rope_type", "default")) not in _ROPES:
            yield f"{name} of type {rope}"


def _own_window(module: Any) -> int | None:
    window: int | None = module.sliding_window
    return window


def _config_window(module: Any) -> int | None:
    window: int | None = getattr(module.config, "sliding_window", None)
    return window


def _no_window(module: Any) -> int | None:
    return None


# By transformers 4.57: where each class takes its sliding window from.
_ATTENTION: Mapping[str, Callable[[Any], int | None]] = {
    "Phi3Attention": _config_window,
    "LlamaAttention": _no_window,
    "Qwen2Attention": _own_window,
    "Qwen3Attention": _own_window,
    "MistralAttention": _config_window,
    "SmolLM3Attention": _own_window,
    "GemmaAttention": _no_window,
    "Gemma2Attention": _own_window,
    "Gemma3Attention": _own_window,
}

# They norm queries and keys after the transposition; Qwen3Attention does before it.
_HEADS_FIRST = frozenset({"Gemma3Attention"})

# Their angles depend on nothing but the position; LongRoPE's also on the length, in two steps.
_ROPES = frozenset({"default", "linear", "llama3", "yarn", "longrope"})


def _attention(path: str, module: Any) -> Attention:
    heads = module.config.num_attention_heads
    return Attention(
        path=path,
        heads=heads,
        kv_heads=heads // module.num_key_value_groups,
        head_size=module.head_dim,
        scale=module.scaling,
        window=_ATTENTION[type(module).__name__](module),
        softcap=getattr(module, "attn_logit_softcapping", None) or 0.0,
        rotary=_rotary_name(module),
        heads_first=type(module).__name__ in _HEADS_FIRST,
    )


def _rotary_name(module: Any) -> str | None:
    """Return the attribute of the model that holds the module's rotary embedding."""
    if not getattr(module, "use_rope", True):
        return None
    local = type(module).__name__ == "Gemma3Attention" and module.is_sliding
    return "rotary_emb_local" if local else "rotary_emb"


def _rotary(model: PreTrainedModel, name: str) -> Rotary:
    """Return the caches, made by the model's own embedding."""
    embedding = getattr(model.model, name)
    positions = model.config.max_position_embeddings
    if embedding.rope_type != "longrope":
        return Rotary(*_caches(embedding, positions))
    switch = getattr(model.config, "original_max_position_embeddings", positions)
    short, long = _caches(embedding, switch), _caches(embedding, positions)
    cos, sin = (np.concatenate(pair) for pair in zip(short, long, strict=True))
    return Rotary(cos, sin, switch)


def _caches(embedding: nn.Module, positions: int) -> tuple[Cache, Cache]:
    with torch.no_grad():
        doubled = embedding(torch.zeros(1), torch.arange(positions)[None])
    # As transformers has them, the second half rotates by the same angles.
    cos, sin = (cache[0].chunk(2, dim=-1)[0].contiguous().numpy() for cache in doubled)
    return cos, sin


def _norms(model: PreTrainedModel) -> Iterator[Norm]:
    for path, module in model.named_modules():
        if type(module).__name__.endswith("RMSNorm"):
            epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
            if epsilon is not None:
                yield Norm(path, epsilon)
