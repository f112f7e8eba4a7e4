"""The KV cache of the tokens that prompts begin with, and what it shows of the model's memory."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer


@dataclass(frozen=True)
class SharedPrefix:
    """The tokens that all prompts begin with, read once.

    tokens: how many; fewer than any prompt has, maybe none. cache: of these, or of one token of a
    prompt if there are none; None if the model has another kind of state.
    """

    tokens: int
    cache: Any

    @classmethod
    def read(cls, model: Any, prompts: Sequence[list[int]]) -> Self:
        """Let a transformers model read the shared tokens of prompts, none of them empty."""
        shared = _common_tokens(prompts)[: min(map(len, prompts)) - 1]
        ids = torch.tensor([shared or prompts[0][:1]], device=model.device)
        with torch.no_grad():
            output = model.base_model(ids, use_cache=True)  # without the head: no logits needed
        return cls(len(shared), getattr(output, "past_key_values", None))

    @property
    def has_plain_cache(self) -> bool:
        """Whether the cache holds nothing but the keys and values of each token."""
        kinds = (DynamicLayer, DynamicSlidingWindowLayer)
        return isinstance(self.cache, DynamicCache) and all(
            type(layer) in kinds for layer in self.cache.layers
        )

    @property
    def bytes_per_token(self) -> int:
        """Size of the keys and values of one token; 0 if the model keeps none."""
        layers = [
            layer
            for layer in getattr(self.cache, "layers", ())
            if getattr(layer, "keys", None) is not None
        ]
        size: int = sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
        return size // max(self.tokens, 1)

    def fits_windows(self, tokens: int) -> bool:
        """Return whether the last of so many tokens sees all others, in every layer."""
        windows = (getattr(layer, "sliding_window", None) for layer in self.cache.layers)
        return all(window is None or tokens <= window for window in windows)

    def repeat(self, rows: int) -> Any:
        """Return a copy of the cache for so many rows."""
        repeated = copy.deepcopy(self.cache)
        repeated.batch_repeat_interleave(rows)
        return repeated


def _common_tokens(prompts: Sequence[list[int]]) -> list[int]:
    first, last = min(prompts), max(prompts)  # all others lie between these
    pairs = enumerate(zip(first, last, strict=False))
    return first[: next((index for index, (one, other) in pairs if one != other), len(first))]
