"""Values beyond the range of float16, found while the reference runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.conversion import reference_model
from slmflow.conversion.proof import reference_logits
from slmflow.conversion.proof.fp16_range import LARGEST, LargestValue
from slmflow.errors import UserError
from tests.conversion import architectures
from tests.conversion.architectures import FUSED
from tests.conversion.conversions import convert

ROWS = [architectures.prompt(length) for length in (9, 30)]


def _with_scaled(folder: Path, **factors: float) -> Path:
    """Save a random model, weights of its first MLP multiplied by factors."""
    weights = architectures.save_random_model(FUSED["llama"], folder / "weights")
    tensors = load_file(weights / "model.safetensors")
    for name, factor in factors.items():
        tensors[f"model.layers.0.mlp.{name}.weight"] *= factor
    save_file(tensors, weights / "model.safetensors", metadata={"format": "pt"})
    return weights


def _largest(weights: Path) -> LargestValue:
    model = reference_model.load(weights).model
    largest = LargestValue()
    checkpoint = CheckpointTensors.for_model(weights, model)
    reference_logits.compute(model, checkpoint, ROWS, largest.observe)
    return largest


def test_largest_activation_equals_transformers(tmp_path: Path) -> None:
    """The product of gate and up projection is the input of down_proj."""
    weights = _with_scaled(tmp_path, up_proj=1e3, down_proj=0)
    inputs: list[torch.Tensor] = []
    loaded = architectures.load(weights)
    loaded.model.layers[0].mlp.down_proj.register_forward_pre_hook(
        lambda _, values: inputs.append(values[0].abs().max())
    )
    for row in ROWS:
        architectures.logits(loaded, row)

    largest = _largest(weights)

    assert largest.name == "model.layers.0.mlp.down_proj"
    np.testing.assert_allclose(largest.value, max(inputs).item(), rtol=1e-4)


@pytest.mark.parametrize(
    ("factors", "name"),
    [
        ({"up_proj": 1e4, "down_proj": 1e4}, r"model\.layers\.\d"),
        ({"down_proj": 1e6}, r"model\.layers\.0\.mlp\.down_proj\.weight"),
    ],
    ids=["residual stream", "weight"],
)
def test_fp16_target_rejects_overflow(tmp_path: Path, factors: dict[str, float], name: str) -> None:
    weights = _with_scaled(tmp_path, **factors)

    with pytest.raises(UserError, match=f"float16, which ends at 65,504, but the values of {name}"):
        convert(weights, tmp_path / "cuda_fp16", "cuda_fp16")


def test_fp32_target_accepts_values_beyond_fp16(tmp_path: Path) -> None:
    weights = _with_scaled(tmp_path, up_proj=1e4, down_proj=1e4)

    record = convert(weights, tmp_path / "cpu_fp32", "cpu_fp32")

    assert record.parity.top1_agreement == 1


@pytest.mark.parametrize(("value", "warns"), [(LARGEST / 3, False), (LARGEST / 1.5, True)])
def test_half_of_the_range_is_warned_of(
    value: float, warns: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    LargestValue("model.layers.3", value).check("cuda_fp16")

    assert ("values of model.layers.3 reach" in capsys.readouterr().err) == warns


def test_nan_counts_as_overflow() -> None:
    largest = LargestValue()

    largest.observe("model.norm", torch.tensor([1.0, torch.nan]))

    with pytest.raises(UserError, match=r"values of model\.norm reach inf"):
        largest.check("cuda_int4")
