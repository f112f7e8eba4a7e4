"""The sizes that a config asks for, held against the weights before anything of them is made."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slmflow.checkpoints.tensors import stored
from slmflow.errors import UserError

# Each is a dimension of some weight, or a divisor of one. Buffers of these sizes are made, and
# memory is taken for them, before the weights' shapes are compared.
_DIMENSIONS = (
    *("vocab_size", "hidden_size", "intermediate_size", "head_dim", "rotary_dim"),
    *("num_attention_heads", "num_key_value_heads", "num_local_experts", "num_experts"),
)
_LAYERS = "num_hidden_layers"
_POSITIONS = ("max_position_embeddings", "original_max_position_embeddings")

# The rotary embedding of a graph has a table of so many rows: some gigabytes at this length.
_MOST_POSITIONS = 2**23


def check(weights: Path) -> None:
    """Raise UserError, with all of them in one message, for sizes that no such weights can have.

    weights: a snapshot folder. Only config.json and the headers of the weights are read.
    """
    config = json.loads((weights / "config.json").read_bytes())
    tensors = stored(weights)
    largest = max((size for each in tensors.values() for size in each.shape), default=0)
    problems = []
    for key, value in _numbers(config):
        if key in _DIMENSIONS and value > largest:
            problems.append(f"{key}={value}, but no dimension of a weight is above {largest:,}")
        elif key == _LAYERS and value > len(tensors):
            problems.append(f"{key}={value}, but there are {len(tensors):,} weights in all")
        elif key in _POSITIONS and value > _MOST_POSITIONS:
            problems.append(f"{key}={value}, where at most {_MOST_POSITIONS:,} are taken")
    if problems:
        raise UserError(
            f"{weights / 'config.json'} asks for what its weights do not have: "
            f"{'; '.join(problems)}. See that config.json and the weights belong together"
        )


def _numbers(config: Any) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a config and of what is nested in it, with their names."""
    if not isinstance(config, dict):
        return
    for key, value in config.items():
        if isinstance(value, int | float):
            yield key, value
        else:
            yield from _numbers(value)
