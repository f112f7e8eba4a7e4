"""Other graphs over the weights that a converted folder holds, for its proofs; none is kept."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from slmflow.checkpoints.tensors import Checkpoint
from slmflow.conversion.export import Exported
from slmflow.conversion.external_data import GRAPH
from slmflow.conversion.passes import last_position
from slmflow.conversion.passes.graph import Builder, finish, rank
from slmflow.conversion.quantization import blockwise
from slmflow.conversion.quantization.blockwise import QuantizedWeight
from slmflow.conversion.quantization.lowering import lower

Array = NDArray[Any]


@contextlib.contextmanager
def all_positions(folder: Path) -> Iterator[str]:
    """Write the converted graph with the logits of all positions; yield its file's name."""
    model = ir.load(folder / GRAPH)
    last_position.undo(model)
    with _written(model, folder, "positions.onnx") as name:
        yield name


@contextlib.contextmanager
def exact(exported: Exported, tensors: "Stored", folder: Path) -> Iterator[str]:
    """Write the graph so that it computes in fp32 with the weights as they lie in the folder.

    Quantized weights are multiplied as the numbers they stand for, those in fp16 are widened.
    """
    model = exported.graph.clone()
    quantization = exported.quantization
    if quantization is not None:
        quantization = dataclasses.replace(quantization, accuracy_level=0)
    lower(model, tensors, quantization, half=False)
    _read_from(model, ir.load(folder / GRAPH))
    with _written(model, folder, "exact.onnx") as name:
        yield name


class Stored(Mapping[str, torch.Tensor]):
    """The weights of a converted folder by their names in the checkpoint: float32, read anew."""

    def __init__(
        self, exported: Exported, original: Checkpoint, folder: Path, *, half: bool
    ) -> None:
        """Read from `folder` what is quantized; the rest is that of `original`, rounded if half."""
        self._schemes = exported.schemes
        self._parts: dict[str, list[str]] = {}
        for name, scheme in sorted(self._schemes.items(), key=lambda item: item[1].source.start):
            for alias in original.aliases(scheme.source.name):
                self._parts.setdefault(alias, []).append(name)
        self._original = original
        self._half = half
        self._tensors = {
            name: value.const_value
            for name, value in ir.load(folder / GRAPH).graph.initializers.items()
        }

    def __getitem__(self, name: str) -> torch.Tensor:
        """Return what the converted graph multiplies by."""
        if parts := self._parts.get(name):
            return torch.from_numpy(np.concatenate([self._dequantized(part) for part in parts]))
        tensor = self._original[name]
        return tensor.half().float() if self._half else tensor

    def __iter__(self) -> Iterator[str]:
        """Iterate over the checkpoint's names."""
        return iter(self._original)

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self._original)

    def _dequantized(self, name: str) -> Array:
        scheme, zero_points = self._schemes[name], f"{name}_zero_points"
        quantized = QuantizedWeight(
            scheme.bits,
            self._original.shape(scheme.source.name)[1],
            self._array(f"{name}_Q{scheme.bits}"),
            self._array(f"{name}_scales").astype(np.float32),
            self._array(zero_points) if zero_points in self._tensors else None,
        )
        return blockwise.dequantize(quantized)

    def _array(self, name: str) -> Array:
        """Read a tensor, by no mapping of the file: what is touched of one counts as memory."""
        tensor: Any = self._tensors[name]
        if not isinstance(tensor, ir.ExternalTensor):
            array: Array = tensor.numpy()
            return array
        kind, shape = tensor.dtype.numpy(), tensor.shape.numpy()
        count = math.prod(shape)
        return np.fromfile(tensor.path, kind, count, offset=tensor.offset or 0).reshape(shape)


def _read_from(model: ir.Model, written: ir.Model) -> None:
    """Let a graph read what is large from the data of the written one, widened if need be.

    Vectors (norms, biases, rotary caches too) it has of its own, in fp32.
    """
    build = Builder(model)
    for name, value in list(model.graph.initializers.items()):
        source, planned = written.graph.initializers.get(name), value.const_value
        if source is None or rank(value) == 1 or not isinstance(planned, ir.LazyTensor):
            continue
        uses = list(value.uses())
        value.const_value, value.type = source.const_value, source.type
        if source.dtype != planned.dtype:
            widened = build.cast(value, planned.dtype)
            for use in uses:
                use.node.replace_input_with(use.idx, widened)
    finish(model)


@contextlib.contextmanager
def _written(model: ir.Model, folder: Path, name: str) -> Iterator[str]:
    ir.save(model, folder / name)
    try:
        yield name
    finally:
        (folder / name).unlink()
