"""Sizes in config.json that the weights contradict."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from slmflow.checkpoints import size_limits
from slmflow.errors import UserError


def write_checkpoint(path: Path, **config: object) -> Path:
    save_file({"embed": np.zeros((100, 8), np.float32)}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"vocab_size": 100, "hidden_size": 8} | config))
    return path


def test_sizes_that_fit_the_weights_pass(tmp_path: Path) -> None:
    size_limits.check(
        write_checkpoint(tmp_path, num_hidden_layers=1, max_position_embeddings=131072)
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hidden_size": 10**15}, "hidden_size=1000000000000000, but the largest dimension of a"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers=1000000000, but there are only 1 weig"),
        ({"max_position_embeddings": 10**15}, "=1000000000000000, but the limit is 8,388,608"),
        ({"text_config": {"head_dim": 10**9}}, "head_dim=1000000000, but the largest dimension"),
        ({"vocab_size": float("inf")}, "vocab_size=inf, but"),
    ],
)
def test_oversized_config_is_rejected(
    tmp_path: Path, config: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        size_limits.check(write_checkpoint(tmp_path, **config))
