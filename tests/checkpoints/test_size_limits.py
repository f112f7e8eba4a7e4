"""A config that asks for more than its weights have."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from slmflow.checkpoints import size_limits
from slmflow.errors import UserError


def folder(path: Path, **config: object) -> Path:
    save_file({"embed": np.zeros((100, 8), np.float32)}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"vocab_size": 100, "hidden_size": 8} | config))
    return path


def test_sizes_that_fit_pass(tmp_path: Path) -> None:
    size_limits.check(folder(tmp_path, num_hidden_layers=1, max_position_embeddings=131072))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"hidden_size": 10**15}, "hidden_size=1000000000000000, but no dimension of a weight is"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers=1000000000, but there are 1 weights"),
        ({"max_position_embeddings": 10**15}, "where at most 8,388,608 are taken"),
        ({"text_config": {"head_dim": 10**9}}, "head_dim=1000000000, but no dimension"),
        ({"vocab_size": float("inf")}, "vocab_size=inf, but"),
    ],
)
def test_sizes_of_a_petabyte(tmp_path: Path, config: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        size_limits.check(folder(tmp_path, **config))
