"""Estimated cost of rounding each weight, against the KL divergence that the reference measures."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.config.schema.target import Algorithm
from slmflow.conversion.calibration import scale_search, sensitivity
from slmflow.conversion.calibration.decoder_walk import DecoderWalk
from slmflow.conversion.calibration.preparation import PreparedTensors
from slmflow.conversion.calibration.sensitivity import Sensitivities
from slmflow.conversion.passes.graph import WeightSource
from slmflow.conversion.proof import reference_logits
from slmflow.conversion.proof.distributions import kl_divergence, log_softmax
from slmflow.conversion.proof.reference_logits import Logits
from slmflow.conversion.quantization.schemes import ScaleType, Scheme
from tests.conversion import architectures
from tests.conversion.architectures import BUNDLED
from tests.conversion.calibration import random_models

WINDOWS = [architectures.prompt(128, seed) for seed in range(4)]
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"

# So small a share of the rounding error that the divergence grows with its square.
SHARE = 0.1


def _schemes(checkpoint: CheckpointTensors) -> dict[str, Scheme]:
    """Return a scheme for each matrix, two for the halves of gate_up_proj, as graphs split it."""
    schemes = {}
    for name in checkpoint:
        shape = checkpoint.shape(name)
        if len(shape) != 2 or checkpoint.tied_names(name)[0] != name:
            continue
        bounds = (0, shape[0] // 2, None) if name.endswith("gate_up_proj.weight") else (0, None)
        for start, stop in itertools.pairwise(bounds):
            source = WeightSource(name, start or 0, stop)
            schemes[f"{name}.{source.start}"] = Scheme(
                source, 4, 32, True, Algorithm.gptq, 0, ScaleType.int8
            )
    return schemes


def _measure(
    model: Any, tensors: PreparedTensors, schemes: Mapping[str, Scheme], windows: Any
) -> Sensitivities:
    """Measure sensitivities; this scales the tensors."""
    walk = DecoderWalk(model, tensors, windows)
    return sensitivity.measure(walk, tensors, schemes, HEAD, EMBEDDING, lambda: None)


def _divergence(
    model: Any,
    tensors: PreparedTensors,
    scheme: Scheme,
    importance: torch.Tensor,
    expected: Sequence[Logits],
) -> float:
    """Return the mean KL divergence of rounding by a scheme, scaled up from a small share."""
    weights = dict(tensors)
    changed = tensors[scheme.source.name]
    rows = changed[scheme.source.start : scheme.source.stop]
    rounded = scale_search.round_to_nearest(rows.numpy(), importance.numpy(), scheme)
    rows += SHARE * (torch.from_numpy(rounded) - rows)
    weights.update(dict.fromkeys(tensors.tied_names(scheme.source.name), changed))
    pairs = zip(expected, reference_logits.compute(model, weights, WINDOWS), strict=True)
    divergences = [kl_divergence(log_softmax(p), log_softmax(q)).mean() for p, q in pairs]
    return float(np.mean(divergences)) / SHARE**2


@pytest.mark.parametrize("name", ["llama", "granite", "phi3", "bundled"])
def test_estimate_is_near_the_divergence(tmp_path: Path, name: str) -> None:
    """Tied (llama) and not, rows of one tensor (phi3), embeddings that the model scales (granite).

    Where the errors of all tokens add up in attention's average, the estimate is too small, since
    it counts each token alone.
    """
    if name == "bundled":
        model, checkpoint = random_models.open_checkpoint(BUNDLED)
    else:
        model, checkpoint = random_models.load(name, tmp_path / name)
    schemes = _schemes(checkpoint)
    tensors = PreparedTensors(checkpoint)

    costs = _measure(model, tensors, schemes, WINDOWS)

    assert costs.divergences.keys() == costs.importance.keys() == schemes.keys()
    reference = reference_logits.compute(model, checkpoint, WINDOWS)
    measured = {
        weight: _divergence(model, tensors, scheme, costs.importance[weight], reference)
        for weight, scheme in schemes.items()
        if ("layers.1" not in weight and "layers.2" not in weight) or name != "bundled"
    }
    for weight, expected in measured.items():
        is_averaged = "v_proj" in weight  # qkv_proj, too
        lowest = 0.15 if is_averaged else 0.6
        assert lowest * expected < costs.divergences[weight] < 1.8 * expected, weight
    estimated = sum(costs.divergences[weight] for weight in measured)
    assert estimated == pytest.approx(sum(measured.values()), rel=0.25)


def test_order_of_windows_hardly_matters(tmp_path: Path) -> None:
    """The labels are drawn anew, nothing else differs."""
    model, checkpoint = random_models.load("llama", tmp_path / "llama")
    schemes = _schemes(checkpoint)

    one = _measure(model, PreparedTensors(checkpoint), schemes, WINDOWS)
    other = _measure(model, PreparedTensors(checkpoint), schemes, WINDOWS[::-1])

    for weight, divergence in one.divergences.items():
        assert other.divergences[weight] == pytest.approx(divergence, rel=0.4)
        torch.testing.assert_close(one.importance[weight], other.importance[weight])
    assert sum(other.divergences.values()) == pytest.approx(sum(one.divergences.values()), rel=0.1)


def test_measurement_is_repeatable(tmp_path: Path) -> None:
    model, checkpoint = random_models.load("phi3", tmp_path / "phi3")
    schemes = _schemes(checkpoint)

    one, other = (
        _measure(model, PreparedTensors(checkpoint), schemes, WINDOWS[:1]) for _ in range(2)
    )

    assert one.divergences == other.divergences
    assert torch.equal(one.head_hessian, other.head_hessian)


def test_importance_is_the_mean_square_of_inputs(tmp_path: Path) -> None:
    model, checkpoint = random_models.load("qwen3", tmp_path / "qwen3")
    name = "model.layers.1.mlp.down_proj"
    inputs: list[torch.Tensor] = []
    tensors = PreparedTensors(checkpoint)

    costs = _measure(model, tensors, _schemes(checkpoint), WINDOWS)

    loaded = architectures.load(tmp_path / "qwen3", attention="sdpa")
    loaded.load_state_dict(dict(tensors))  # scaled
    for path in (name, "lm_head"):
        loaded.get_submodule(path).register_forward_pre_hook(lambda _, x: inputs.append(x[0]))
    with torch.no_grad():
        loaded(torch.tensor(WINDOWS))
    expected, hidden = (x.flatten(0, 1) for x in inputs)
    torch.testing.assert_close(
        costs.importance[f"{name}.weight.0"], expected.square().mean(0), rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(
        costs.head_hessian, hidden.T @ hidden / len(hidden), rtol=1e-4, atol=1e-4
    )


def test_eight_bits_cost_far_less(tmp_path: Path) -> None:
    model, checkpoint = random_models.load("llama", tmp_path / "llama")
    name = "model.layers.0.mlp.up_proj.weight"
    four = Scheme(WeightSource(name), 4, 32, True, Algorithm.gptq, 0, ScaleType.float32)
    eight = Scheme(WeightSource(name), 8, 32, True, Algorithm.gptq, 0, ScaleType.float32)

    cost_of_four = _measure(model, PreparedTensors(checkpoint), {"w": four}, WINDOWS).divergences[
        "w"
    ]
    cost_of_eight = _measure(model, PreparedTensors(checkpoint), {"w": eight}, WINDOWS).divergences[
        "w"
    ]

    # 16 times finer steps, so about 256 times less.
    assert cost_of_four / 400 < cost_of_eight < cost_of_four / 100
