"""Calibration of a model layer by layer: what it leaves of the model, and its continuation."""

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.config.schema.target import Algorithm
from slmflow.conversion.calibration import calibrate
from slmflow.conversion.calibration.calibrate import Calibration, Quantizable
from slmflow.conversion.calibration.workspace import Workspace
from slmflow.conversion.passes.graph import WeightSource
from slmflow.conversion.proof import reference_logits
from slmflow.conversion.proof.distributions import kl_divergence, log_softmax
from slmflow.conversion.quantization import blockwise
from slmflow.conversion.quantization.schemes import ScaleType, Scheme
from tests.conversion import architectures
from tests.conversion.calibration import random_models
from tests.conversion.calibration.plain_rounding import PlainlyRoundedWeights

WINDOWS = [architectures.prompt(96, seed) for seed in range(12)]
HELD_OUT = [architectures.prompt(96, seed) for seed in range(100, 104)]


@dataclass(frozen=True)
class Inputs:
    """What calibration takes; all matrices of the model are quantized, gate_up_proj in halves."""

    model: Any
    checkpoint: CheckpointTensors

    def weights(self, **options: Any) -> Quantizable:
        chosen = {
            "bits": 4,
            "block_size": 32,
            "symmetric": True,
            "algorithm": Algorithm.gptq,
            "accuracy_level": 0,
            "scale_type": ScaleType.int8,
        } | options
        sources = {f"{source.name}.{source.start}": source for source in self._sources()}
        schemes = {name: Scheme(source, **chosen) for name, source in sources.items()}
        shapes = {
            name: self.checkpoint[source.name][source.start : source.stop].shape
            for name, source in sources.items()
        }
        return Quantizable(schemes, shapes, frozenset(), 16)

    def _sources(self) -> Iterator[WeightSource]:
        for name in self.checkpoint:
            shape = self.checkpoint.shape(name)
            if len(shape) != 2 or self.checkpoint.tied_names(name)[0] != name:
                continue
            if name.endswith("gate_up_proj.weight"):
                yield WeightSource(name, 0, shape[0] // 2)
                yield WeightSource(name, shape[0] // 2, shape[0])
            else:
                yield WeightSource(name)

    def calibration(self, folder: Path) -> Calibration:
        return Calibration(self.model, self.checkpoint, WINDOWS, Workspace(folder))


@pytest.fixture(scope="module", params=["phi3", "llama"])  # packed rows; a tied embedding
def inputs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp(request.param) / "model"
    return Inputs(*random_models.load(request.param, folder))


def _divergence(inputs: Inputs, weights: Any) -> float:
    expected = reference_logits.compute(inputs.model, inputs.checkpoint, HELD_OUT)
    logits = reference_logits.compute(inputs.model, weights, HELD_OUT)
    pairs = zip(expected, logits, strict=True)
    return float(np.mean([kl_divergence(log_softmax(p), log_softmax(q)) for p, q in pairs]))


def _replaced(
    calibration: Calibration, weights: Quantizable, quantized: Any
) -> dict[str, torch.Tensor]:
    """Return the tensors of a calibration, with the rows that it has rounded."""
    tensors = dict(calibration.tensors)
    for name, scheme in weights.schemes.items():
        source = scheme.source
        tensor = tensors[source.name]
        rounded = torch.from_numpy(blockwise.dequantize(quantized[name]))
        tensor[source.start : source.stop] = rounded
        tensors.update(dict.fromkeys(calibration.tensors.tied_names(source.name), tensor))
    return tensors


@pytest.mark.parametrize("symmetric", [True, False])
def test_all_weights_are_rounded_better_than_plainly(
    inputs: Inputs, tmp_path: Path, symmetric: bool
) -> None:
    weights = inputs.weights(symmetric=symmetric)

    calibration = inputs.calibration(tmp_path)
    quantized = calibration.quantize(weights)

    assert sorted(quantized) == sorted(weights.schemes)
    for name, scheme in weights.schemes.items():
        scheme.check(quantized[name])
        assert blockwise.dequantize(quantized[name]).shape == tuple(weights.shapes[name])
    rtn = PlainlyRoundedWeights(weights.schemes, inputs.checkpoint, fp16=False)
    calibrated = _divergence(inputs, _replaced(calibration, weights, quantized))
    assert calibrated < 0.9 * _divergence(inputs, rtn)


def test_without_a_budget_schemes_stay(inputs: Inputs, tmp_path: Path) -> None:
    weights = inputs.weights()

    assert inputs.calibration(tmp_path).choose_schemes(weights, None) == weights.schemes
    assert list(tmp_path.iterdir()) == []  # nothing was measured


def test_schemes_fit_the_budget(inputs: Inputs, tmp_path: Path) -> None:
    weights = inputs.weights()
    count = sum(rows * columns for rows, columns in weights.shapes.values())
    budgets = [int(bits * count / 8) for bits in (4.8, 5.5, 9)]
    calibration = inputs.calibration(tmp_path)

    chosen = [calibration.choose_schemes(weights, budget) for budget in budgets]

    for schemes, budget in zip(chosen, budgets, strict=True):
        size = sum(
            calibrate.allocation.stored_bytes(weights.shapes[name], scheme)
            for name, scheme in schemes.items()
        )
        assert size <= budget
    assert {scheme.bits for scheme in chosen[0].values()} <= {4, 8}
    assert 0 < sum(scheme.bits == 8 for scheme in chosen[1].values()) < len(weights.schemes)
    assert {scheme.bits for scheme in chosen[2].values()} == {8}


def test_fixed_weights_keep_their_scheme(inputs: Inputs, tmp_path: Path) -> None:
    weights = inputs.weights()
    fixed = frozenset(list(weights.schemes)[::2])
    weights = Quantizable(weights.schemes, weights.shapes, fixed, 16)

    chosen = inputs.calibration(tmp_path).choose_schemes(weights, 10**9)

    for name, scheme in chosen.items():
        assert (scheme == weights.schemes[name]) == (name in fixed)


def _files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def _run_killed(inputs: Inputs, weights: Quantizable, folder: Path, writes: int) -> None:
    """Calibrate in a process that is killed as it has written its n-th file, not yet in place."""
    child = os.fork()
    if child == 0:
        replace, left = Path.replace, iter(range(writes, -1, -1))

        def kill_at_last(file: Path, target: Path) -> Path:
            if next(left) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return replace(file, target)

        Path.replace = kill_at_last  # type: ignore[method-assign]
        inputs.calibration(folder).quantize(weights)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.fixture(scope="module")
def uninterrupted(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    inputs.calibration(folder).quantize(inputs.weights())
    return _files(folder)


# Written are: scales, sensitivities, embeddings, and of each layer its weights and its output.
@pytest.mark.parametrize("writes", range(1, 8))
def test_a_killed_calibration_continues(
    inputs: Inputs, uninterrupted: dict[str, bytes], tmp_path: Path, writes: int
) -> None:
    weights = inputs.weights()
    _run_killed(inputs, weights, tmp_path, writes)
    finished = {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("*.safetensors")}
    assert (tmp_path / "building").exists()

    inputs.calibration(tmp_path).quantize(weights)

    assert _files(tmp_path) == uninterrupted
    kept = {name for name in finished if (tmp_path / name).stat().st_mtime_ns == finished[name]}
    assert len(kept) >= min(writes - 2, 3)


def test_a_calibration_may_be_killed_twice(
    inputs: Inputs, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    weights = inputs.weights()
    _run_killed(inputs, weights, tmp_path, 4)
    _run_killed(inputs, weights, tmp_path, 2)  # the output of the first layer is there now

    inputs.calibration(tmp_path).quantize(weights)

    assert _files(tmp_path) == uninterrupted


@pytest.mark.parametrize("lost", ["layer-0", "embedded", "hidden", "sensitivity", "prepared"])
def test_lost_files_are_computed_again(
    inputs: Inputs, uninterrupted: dict[str, bytes], tmp_path: Path, lost: str
) -> None:
    for name, content in uninterrupted.items():
        (tmp_path / name).write_bytes(content[: 40 if name.startswith(lost) else None])

    inputs.calibration(tmp_path).quantize(inputs.weights())

    assert _files(tmp_path) == uninterrupted


def test_finished_layers_are_not_computed_again(
    inputs: Inputs, uninterrupted: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in uninterrupted.items():
        (tmp_path / name).write_bytes(content)
    rounded: list[Iterable[int]] = []
    monkeypatch.setattr(calibrate.gptq, "quantize", lambda weight, *_: rounded.append(weight.shape))

    quantized = inputs.calibration(tmp_path).quantize(inputs.weights())

    assert rounded == []
    assert len(quantized) == len(inputs.weights().schemes)
