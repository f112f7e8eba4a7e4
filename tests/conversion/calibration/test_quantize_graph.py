"""Calibrated graphs: sizes on disk, budgets, and continuation after a kill."""

import dataclasses
import itertools
import os
import re
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.config.schema.target import Precision, Target
from slmflow.conversion import optimum_export, reference_model
from slmflow.conversion.calibration import allocation, quantize_graph
from slmflow.conversion.onnx_files import GRAPH_FILE, planned_size
from slmflow.conversion.optimum_export import RewrittenGraph
from slmflow.conversion.passes.graph import is_weight, value_name, weight_shape
from slmflow.conversion.quantization.lowering import lower
from slmflow.conversion.quantization.schemes import ScaleType, Scheme
from tests.conversion import architectures, conversions
from tests.conversion.architectures import BUNDLED
from tests.conversion.calibration import random_models

WINDOWS = [architectures.prompt(96, seed) for seed in range(4)]


@dataclass(frozen=True)
class Traced:
    """A traced model, as calibration takes it."""

    folder: Path
    rewritten: RewrittenGraph
    model: Any
    checkpoint: CheckpointTensors

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        values = [value for value in self.rewritten.graph.graph.inputs if is_weight(value)]
        return {value_name(value): weight_shape(value) for value in values}

    def lowered(self, schemes: Mapping[str, Scheme], *, fp16: bool) -> Any:
        graph = self.rewritten.graph.clone()
        lower(graph, self.checkpoint, schemes, {}, fp16=fp16)
        return graph

    def quantize(self, target: Target, scratch: Path) -> tuple[dict[str, Scheme], Any, Any]:
        """Return what `quantize_graph.quantize` does."""
        assert target.quantization is not None
        return quantize_graph.quantize(
            self.rewritten.graph,
            optimum_export.choose_schemes(self.rewritten, target),
            target.quantization,
            self.model,
            self.checkpoint,
            WINDOWS,
            scratch,
            fp16=target.precision is Precision.fp16,
        )

    def convert(self, target: Target, scratch: Path, folder: Path) -> dict[str, Scheme]:
        """Calibrate and write into a new folder; return the schemes."""
        schemes, quantized, tensors = self.quantize(target, scratch)
        folder.mkdir()
        optimum_export.write(self.rewritten, tensors, schemes, quantized, folder, target)
        return schemes


@pytest.fixture(
    scope="module",
    params=[pytest.param("bundled", marks=pytest.mark.long), "llama"],  # untied, packed rows; tied
)
def traced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    folder = tmp_path_factory.mktemp(request.param)
    weights = BUNDLED
    if request.param != "bundled":
        weights = folder / "weights"
        random_models.load(request.param, weights)
    reference = reference_model.load(weights)
    rewritten = optimum_export.trace_and_rewrite(
        weights, reference, folder, conversions.target("cpu_int4")
    )
    checkpoint = CheckpointTensors.for_model(weights, reference.model)
    return Traced(folder, rewritten, reference.model, checkpoint)


def _target(*overrides: str, name: str = "cpu_int4") -> Target:
    overrides = tuple(f"target.quantization.{override}" for override in overrides)
    return conversions.target(name, "target.quantization.algorithm=gptq", *overrides)


def _initializer_bytes(graph: Any, names: Sequence[str]) -> Counter[str]:
    """Return the bytes of the initializers of each quantized weight."""
    sizes: Counter[str] = Counter()
    suffix = r"_(Q4|Q8|scales|scale_codes|row_scales|zero_points)"
    for name, value in graph.graph.initializers.items():
        match = re.fullmatch(rf"(.+?){suffix}", name)
        if match and match[1] in names:
            sizes[match[1]] += value.const_value.nbytes
    return sizes


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("fp16", [True, False])
def test_stored_bytes_are_those_of_the_graph(traced: Traced, symmetric: bool, fp16: bool) -> None:
    target = _target(f"symmetric={str(symmetric).lower()}", "bits_per_weight=null")
    chosen = optimum_export.choose_schemes(traced.rewritten, target)
    options = itertools.cycle(itertools.product((16, 32, 64, 128, 256), (4, 8), ScaleType))
    schemes = {
        # A tied weight must be in blocks that divide its rows.
        name: dataclasses.replace(
            scheme,
            block_size=min(block_size, scheme.block_size) if "embed" in name else block_size,
            bits=bits,
            scale_type=scale_type,
        )
        for (name, scheme), (block_size, bits, scale_type) in zip(
            chosen.items(), options, strict=False
        )
    }

    sizes = _initializer_bytes(traced.lowered(schemes, fp16=fp16), list(schemes))

    assert sizes == {
        name: allocation.stored_bytes(traced.shapes[name], scheme)
        for name, scheme in schemes.items()
    }


@pytest.mark.parametrize("name", ["cpu_int4", "cuda_int4"])
def test_planned_size_is_that_of_the_files(traced: Traced, tmp_path: Path, name: str) -> None:
    target = _target("bits_per_weight=5", name=name)

    schemes = traced.convert(target, tmp_path / "scratch", tmp_path / "model")

    fp16 = name == "cuda_int4"
    planned = planned_size(traced.lowered(schemes, fp16=fp16))
    written = _size(tmp_path / "model")
    assert planned - 4000 < written <= planned  # offsets are shorter than planned
    assert {scheme.scale_type for scheme in schemes.values()} == {
        ScaleType.float16 if fp16 else ScaleType.int8
    }


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob(f"{GRAPH_FILE}*"))


def _files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("share", [0.0, 0.4, 2.0])
def test_file_is_within_its_budget(
    traced: Traced, tmp_path: Path, share: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """A share of the way from all at 4 bits in large blocks to all at 8 bits in small ones."""
    smallest, largest = (
        planned_size(traced.lowered(_uniform(traced, bits, block), fp16=False))
        for bits, block in ((4, 128), (8, 32))
    )
    budget = smallest + share * (largest - smallest)

    schemes = traced.convert(
        _target(f"budget_mb={budget / 1e6}", "smallest_block=32"), tmp_path / "s", tmp_path / "m"
    )

    size = _size(tmp_path / "m")
    assert size <= budget
    assert size > min(budget, largest) - 0.1 * (largest - smallest) - 2000
    bits = Counter(scheme.bits for scheme in schemes.values())
    assert (bits[8] == 0) == (share == 0)
    assert (bits[4] == 0) == (share > 1)
    assert "too small" not in capsys.readouterr().err


def _uniform(traced: Traced, bits: int, block_size: int) -> dict[str, Scheme]:
    """Return schemes of one precision, in the largest blocks that divide the rows."""
    overrides = (f"bits={bits}", f"block_size={block_size}", "bits_per_weight=null")
    return optimum_export.choose_schemes(traced.rewritten, _target(*overrides))


@pytest.mark.parametrize("key", ["budget_mb", "bits_per_weight"])
def test_warning_names_the_smallest_budget(
    traced: Traced, tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = {"budget_mb": 0.01, "bits_per_weight": 4.01}[key]
    schemes = traced.quantize(_target(f"{key}={budget}"), tmp_path / "first")[0]

    warning = " ".join(capsys.readouterr().err.split())

    assert f"target.quantization.{key}={budget}: too small for 4 bits in blocks of 128" in warning
    match = re.search(r"the smallest possible is ([\d.]+), which is used", warning)
    assert match is not None
    assert {scheme.bits for scheme in schemes.values()} == {4}
    again = traced.quantize(_target(f"{key}={match[1]}"), tmp_path / "second")[0]
    assert "too small" not in capsys.readouterr().err
    assert key == "budget_mb" or again == schemes  # rounded up to 0.1 MB
    step = {"budget_mb": 0.1, "bits_per_weight": 0.001}[key]
    traced.quantize(_target(f"{key}={float(match[1]) - step:.4f}"), tmp_path / "third")
    assert "too small" in capsys.readouterr().err


def test_eight_bit_modules_stay_at_eight_bits(traced: Traced, tmp_path: Path) -> None:
    target = _target("eight_bit=[*.down_proj]", "bits_per_weight=4.1")

    schemes = traced.quantize(target, tmp_path)[0]

    assert {name for name, scheme in schemes.items() if scheme.bits == 8} == {
        name for name in schemes if "down_proj" in name
    }


@pytest.mark.parametrize("layer", [0, 1])
def test_a_killed_conversion_ends_in_the_same_files(
    traced: Traced, tmp_path: Path, layer: int, capsys: pytest.CaptureFixture[str]
) -> None:
    target = _target("bits_per_weight=5")
    traced.convert(target, tmp_path / "whole", tmp_path / "expected")
    child = os.fork()
    if child == 0:
        replace = Path.replace

        def kill_after_layer(file: Path, target: Path) -> Path:
            replace(file, target)
            if target.name == f"layer-{layer}.safetensors":
                os.kill(os.getpid(), signal.SIGKILL)
            return target

        Path.replace = kill_after_layer  # type: ignore[method-assign,assignment]
        traced.quantize(target, tmp_path / "killed")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    capsys.readouterr()

    traced.convert(target, tmp_path / "killed", tmp_path / "continued")

    # The inputs of the layer after the last are written after the weights of the last.
    assert ("calibration continues after layer" in capsys.readouterr().err) == (layer > 0)
    assert _files(tmp_path / "continued") == _files(tmp_path / "expected")
