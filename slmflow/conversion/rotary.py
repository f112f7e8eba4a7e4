"""The rotary embedding of a model: its types and its tables of cosines and sines.

transformers keeps the settings in `config.rope_parameters`, nested by layer type where the layers
differ (Gemma 3). Both spellings of config.json, version 4's and version 5's, are read into it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

CacheTable = NDArray[np.float32]

LONGROPE = "longrope"

# These change all positions of a text that is longer than the original context.
_LENGTH_DEPENDENT = (LONGROPE, "dynamic")


@dataclass(frozen=True)
class RotaryCache:
    """Cosines and sines of one rotary embedding, its attention scaling included.

    cos, sin: float32 [positions, rotary size / 2]; original_length: the context length up to which
    LongRoPE uses its short factors, 0 for every other type. With LongRoPE the first
    `original_length` rows come from the short factors; the rows after them come from the long
    factors and start at position 0 again.
    """

    cos: CacheTable
    sin: CacheTable
    original_length: int = 0


def rope_types(config: Any) -> frozenset[str]:
    """Return the types of a model's rotary embeddings, such as default, llama3 or longrope."""
    return frozenset(p["rope_type"] for p in _parameters(config) if "rope_type" in p)


def original_length(config: Any) -> int:
    """Return the context length of the original training, the whole context by default."""
    lengths = [p.get("original_max_position_embeddings") for p in _parameters(config)]
    return min(
        (length for length in lengths if length), default=int(config.max_position_embeddings)
    )


def constant_length(config: Any) -> int | None:
    """Return up to which length of a text its rotary embedding does not depend on that length.

    None if it never does. Where it does, it changes a whole batch by its longest text.
    """
    original = getattr(config, "original_max_position_embeddings", None)
    lengths = [
        p.get("original_max_position_embeddings") or original or config.max_position_embeddings
        for p in _parameters(config)
        if p.get("rope_type") in _LENGTH_DEPENDENT
    ]
    return min(lengths, default=None)


def compute_cache(embedding: nn.Module, config: Any, layer_type: str | None) -> RotaryCache:
    """Compute the tables of one rotary embedding with the embedding itself.

    layer_type: the kind of layer, for an embedding that has parameters for each kind.
    """
    positions = config.max_position_embeddings
    if LONGROPE not in rope_types(config):
        return RotaryCache(*_cos_and_sin(embedding, positions, layer_type))
    original = original_length(config)
    short = _cos_and_sin(embedding, original, layer_type)
    long = _cos_and_sin(embedding, positions, layer_type)
    cos, sin = (np.concatenate(tables) for tables in zip(short, long, strict=True))
    return RotaryCache(cos, sin, original)


def _parameters(config: Any) -> list[Mapping[str, Any]]:
    """Return the rotary parameters of each layer type, or the only ones."""
    parameters = getattr(config, "rope_parameters", None) or {}
    nested = [p for p in parameters.values() if isinstance(p, Mapping)]
    return nested or [parameters]


def _cos_and_sin(
    embedding: nn.Module, positions: int, layer_type: str | None
) -> tuple[CacheTable, CacheTable]:
    by_type = {} if layer_type is None else {"layer_type": layer_type}
    with torch.no_grad():
        doubled = embedding(torch.zeros(1), torch.arange(positions)[None], **by_type)
    # transformers repeats the angles for the second half of a head.
    cos, sin = (table[0].chunk(2, dim=-1)[0].contiguous().numpy() for table in doubled)
    return cos, sin
