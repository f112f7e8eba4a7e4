"""Compare the sizes in a checkpoint's config with its weights, before memory is allocated."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slmflow.checkpoints.tensors import read_headers
from slmflow.errors import UserError

# Each is a dimension of some weight, or a divisor of one. transformers allocates buffers of these
# sizes before it compares the shapes of the weights.
_DIMENSIONS = (
    *("vocab_size", "hidden_size", "intermediate_size", "head_dim", "rotary_dim"),
    *("num_attention_heads", "num_key_value_heads", "num_local_experts", "num_experts"),
)
_LAYERS = "num_hidden_layers"
_POSITIONS = ("max_position_embeddings", "original_max_position_embeddings")

# The rotary embedding of a graph is a table with this many rows: some gigabytes at this length.
_MAX_POSITIONS = 2**23


def check(weights: Path) -> None:
    """Raise UserError, with all problems in one message, for sizes that the weights contradict.

    weights: a checkpoint folder. Reads only config.json and the headers of the weights.
    """
    config = json.loads((weights / "config.json").read_bytes())
    headers = read_headers(weights)
    largest = max((size for header in headers.values() for size in header.shape), default=0)
    problems = []
    for key, value in _numbers(config):
        if key in _DIMENSIONS and value > largest:
            problems.append(f"{key}={value}, but the largest dimension of a weight is {largest:,}")
        elif key == _LAYERS and value > len(headers):
            problems.append(f"{key}={value}, but there are only {len(headers):,} weights")
        elif key in _POSITIONS and value > _MAX_POSITIONS:
            problems.append(f"{key}={value}, but the limit is {_MAX_POSITIONS:,}")
    if problems:
        raise UserError(
            f"{weights / 'config.json'} does not fit its weights: {'; '.join(problems)}. "
            "Check that config.json and the weights belong together"
        )


def _numbers(config: Any) -> Iterator[tuple[str, float]]:
    """Yield all numbers of a config with their keys, nested objects included."""
    if not isinstance(config, dict):
        return
    for key, value in config.items():
        if isinstance(value, int | float):
            yield key, value
        else:
            yield from _numbers(value)
