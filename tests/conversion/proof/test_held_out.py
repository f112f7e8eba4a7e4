"""Held-out windows, and the reference's logits of them, against the model loaded as a whole."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PretrainedConfig

from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.conversion import reference_model
from slmflow.conversion.calibration import text
from slmflow.conversion.proof import held_out
from slmflow.conversion.proof.probes import build_prompts
from slmflow.conversion.reference_model import ReferenceModel
from slmflow.paths import PROJECT
from tests.conversion import architectures
from tests.conversion.architectures import BUNDLED, FUSED

HELD_OUT = PROJECT / "bundled" / "held_out"


def _load(name: str, folder: Path) -> tuple[Path, ReferenceModel, CheckpointTensors]:
    weights = architectures.save_random_model(FUSED[name], folder) if name in FUSED else BUNDLED
    reference = reference_model.load(weights)
    return weights, reference, CheckpointTensors.for_model(weights, reference.model)


@pytest.mark.parametrize("name", ["bundled", "phi3_longrope", "gemma2"])
def test_logits_equal_transformers(tmp_path: Path, name: str) -> None:
    weights, reference, checkpoint = _load(name, tmp_path / name)
    windows = held_out.build_windows(reference, text.read(HELD_OUT, "calibration.held_out"))
    prompts = build_prompts(reference.tokenizer)

    with held_out.compute_reference(reference, checkpoint, prompts, windows) as (kept, stored):
        loaded = architectures.load(weights, attention=reference.model.config._attn_implementation)
        for ids, computed in zip([*prompts, *windows], [*kept, *stored], strict=True):
            expected = architectures.logits(loaded, ids)
            tolerance = 1e-5 * np.abs(expected).max()
            np.testing.assert_allclose(computed, expected, atol=tolerance)
    assert sum(map(len, windows)) == 2048


@pytest.mark.parametrize(
    ("fields", "tokens", "length"),
    [
        ({"vocab_size": 32064, "max_position_embeddings": 4096}, 2048, 512),
        ({"vocab_size": 32064, "max_position_embeddings": 100}, 2048, 100),
        ({"vocab_size": 262_144, "max_position_embeddings": 4096}, 488, 122),
        ({"vocab_size": 32064}, 2048, 512),
    ],
)
def test_windows_fit_memory_and_context(fields: dict[str, int], tokens: int, length: int) -> None:
    assert held_out.window_size(_model(fields)) == (tokens, length)
    assert tokens * fields["vocab_size"] * 4 <= 512e6


def test_large_model_runs_fewer_tokens() -> None:
    assert held_out.window_size(_model({"vocab_size": 32064}, parameters=10**9)) == (1024, 256)


def _model(fields: dict[str, int], parameters: int = 10**6) -> torch.nn.Module:
    model = torch.nn.Linear(parameters, 1, bias=False, device="meta")
    model.config = PretrainedConfig(**fields)  # type: ignore[assignment]
    return model
