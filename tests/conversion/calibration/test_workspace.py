"""Files of finished calibration: complete or absent, whatever killed the process before."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from slmflow.config.schema.target import Algorithm
from slmflow.conversion.calibration.gptq import Feedback, quantize
from slmflow.conversion.calibration.workspace import Workspace
from slmflow.conversion.passes.graph import WeightSource
from slmflow.conversion.quantization.blockwise import QuantizedWeight, dequantize
from slmflow.conversion.quantization.schemes import ScaleType, Scheme


def _scheme(scale_type: ScaleType, *, symmetric: bool = True, bits: int = 4) -> Scheme:
    source = WeightSource("weight")
    return Scheme(source, bits, 32, symmetric, Algorithm.gptq, 0, scale_type)


def _quantized(scheme: Scheme, columns: int = 70) -> QuantizedWeight:
    weight = torch.randn(5, columns, generator=torch.Generator().manual_seed(0))
    return quantize(weight, Feedback(torch.eye(columns)), scheme)


@pytest.mark.parametrize("scale_type", ScaleType)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_weights_are_read_as_written(
    tmp_path: Path, scale_type: ScaleType, symmetric: bool, bits: int
) -> None:
    scheme = _scheme(scale_type, symmetric=symmetric, bits=bits)
    workspace, weight = Workspace(tmp_path), _quantized(scheme)

    workspace.save_weights("one", {"a.weight": weight})
    workspace.save_weights("two", {"b.weight": _quantized(_scheme(ScaleType.int8), 64)})

    schemes = {"a.weight": scheme, "b.weight": _scheme(ScaleType.int8)}
    stored = Workspace(tmp_path).weights(schemes, {"a.weight": 70, "b.weight": 64})
    assert sorted(stored) == ["a.weight", "b.weight"]
    assert len(stored) == 2
    read = stored["a.weight"]
    scheme.check(read)
    assert (read.bits, read.columns) == (bits, 70)
    np.testing.assert_array_equal(read.packed, weight.packed)
    np.testing.assert_array_equal(read.scales, weight.scales)
    np.testing.assert_array_equal(dequantize(read), dequantize(weight))
    if weight.coded_scales is not None:
        assert read.coded_scales is not None
        np.testing.assert_array_equal(read.coded_scales.codes, weight.coded_scales.codes)


def test_tensors_are_read_as_written(tmp_path: Path) -> None:
    tensors = {"a b": torch.arange(6.0).reshape(2, 3).T, "count": torch.tensor(3)}

    Workspace(tmp_path).save("state", tensors)

    assert Workspace(tmp_path).has("state")
    assert not Workspace(tmp_path).has("other")
    loaded = Workspace(tmp_path).load("state")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_tensors_are_no_weights(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.save("state", {"importance model.weight": torch.zeros(2)})
    workspace.save_weights("one", {"w": _quantized(_scheme(ScaleType.int8))})

    assert list(workspace.weights({"w": _scheme(ScaleType.int8)}, {"w": 70})) == ["w"]


@pytest.mark.parametrize("size", [0, 4, 60, -1])
def test_damaged_files_are_removed(tmp_path: Path, size: int) -> None:
    """Such as a crash of the machine leaves, which loses what was not written to the disk."""
    workspace = Workspace(tmp_path)
    for name in ("damaged", "good"):
        workspace.save_weights(name, {name: _quantized(_scheme(ScaleType.int8))})
    file = tmp_path / "damaged.safetensors"
    file.write_bytes(file.read_bytes()[:size])

    workspace = Workspace(tmp_path)

    assert not workspace.has("damaged")
    assert workspace.has("good")
    schemes = {"good": _scheme(ScaleType.int8)}
    assert list(workspace.weights(schemes, {"good": 70})) == ["good"]


def test_foreign_files_are_ignored(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_bytes(b"\0" * 8)
    (tmp_path / "notes.safetensors").write_text("not tensors")
    (tmp_path / "folder").mkdir()

    workspace = Workspace(tmp_path)

    assert len(workspace.weights({}, {})) == 0
    workspace.save("state", {"x": torch.zeros(1)})
    assert workspace.has("state")


def test_a_kill_while_writing_leaves_the_last_state(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.save("state", {"layers": torch.tensor(1)})
    child = os.fork()
    if child == 0:
        kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
        Path.replace = kill  # type: ignore[method-assign,assignment]
        workspace.save("state", {"layers": torch.tensor(2), "rest": torch.zeros(10**5)})
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert {file.name for file in tmp_path.iterdir()} == {"state.safetensors", "building"}
    (tmp_path / "building").write_bytes((tmp_path / "building").read_bytes()[:1000])

    workspace = Workspace(tmp_path)

    assert int(workspace.load("state")["layers"]) == 1
    workspace.save("state", {"layers": torch.tensor(2)})
    assert int(workspace.load("state")["layers"]) == 2
    assert {file.name for file in tmp_path.iterdir()} == {"state.safetensors"}
