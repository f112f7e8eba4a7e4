"""Temporary variants of a converted graph, over the weights in its folder, for proof and parity."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from slmflow.conversion.calibration.preparation import ModelTensors
from slmflow.conversion.onnx_files import GRAPH_FILE
from slmflow.conversion.optimum_export import ExportedModel
from slmflow.conversion.passes import last_position
from slmflow.conversion.passes.graph import rank
from slmflow.conversion.passes.graph_editor import GraphEditor, clean_up
from slmflow.conversion.quantization import blockwise
from slmflow.conversion.quantization.blockwise import CodedScales, QuantizedWeight
from slmflow.conversion.quantization.lowering import lower
from slmflow.conversion.quantization.replaced_weights import ReplacedWeights
from slmflow.conversion.quantization.schemes import ScaleType

Array = NDArray[Any]


@contextlib.contextmanager
def all_positions(folder: Path) -> Iterator[str]:
    """Write the converted graph with logits of all positions; yield its file name."""
    model = ir.load(folder / GRAPH_FILE)
    last_position.undo(model)
    with _written(model, folder, "positions.onnx") as name:
        yield name


@contextlib.contextmanager
def exact_graph(exported: ExportedModel, tensors: "StoredWeights", folder: Path) -> Iterator[str]:
    """Write a graph that computes in fp32 with the weights in the folder; yield its file name.

    Quantized weights are multiplied by their exact values, fp16 weights are cast to fp32.
    """
    model = exported.graph.clone()
    schemes = {
        name: dataclasses.replace(scheme, accuracy_level=0)
        for name, scheme in exported.schemes.items()
    }
    lower(model, tensors, schemes, {}, fp16=False)
    _reuse_stored_weights(model, ir.load(folder / GRAPH_FILE))
    with _written(model, folder, "exact.onnx") as name:
        yield name


class StoredWeights(ReplacedWeights):
    """Weights of a converted folder: the values that its graph computes with."""

    def __init__(
        self, exported: ExportedModel, checkpoint: ModelTensors, folder: Path, *, fp16: bool
    ) -> None:
        """Read quantized weights from `folder`, the others from the checkpoint, rounded if fp16."""
        super().__init__(exported.schemes, checkpoint, fp16=fp16)
        self._tensors = {
            name: value.const_value
            for name, value in ir.load(folder / GRAPH_FILE).graph.initializers.items()
        }

    def _replacement(self, name: str, parts: Sequence[str]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([self._dequantize(part) for part in parts]))

    def _dequantize(self, name: str) -> Array:
        scheme, coded = self._schemes[name], None
        if scheme.scale_type is ScaleType.int8:
            coded = CodedScales(self._read(f"{name}_scale_codes"), self._read(f"{name}_row_scales"))
        quantized = QuantizedWeight(
            scheme.bits,
            self._checkpoint.shape(scheme.source.name)[1],
            self._read(f"{name}_Q{scheme.bits}"),
            coded.values() if coded else self._read(f"{name}_scales").astype(np.float32),
            None if scheme.symmetric else self._read(f"{name}_zero_points"),
            coded,
        )
        return blockwise.dequantize(quantized)

    def _read(self, name: str) -> Array:
        """Read an initializer without mapping the file: touched pages would count as memory."""
        tensor: Any = self._tensors[name]
        if not isinstance(tensor, ir.ExternalTensor):
            array: Array = tensor.numpy()
            return array
        dtype, shape = tensor.dtype.numpy(), tensor.shape.numpy()
        count = math.prod(shape)
        return np.fromfile(tensor.path, dtype, count, offset=tensor.offset or 0).reshape(shape)


def _reuse_stored_weights(model: ir.Model, stored: ir.Model) -> None:
    """Let a graph read its large initializers from the stored graph's data, cast if necessary.

    It keeps its own fp32 vectors: norms, biases, rotary caches.
    """
    editor = GraphEditor(model)
    for name, value in list(model.graph.initializers.items()):
        source, planned = stored.graph.initializers.get(name), value.const_value
        if source is None or rank(value) == 1 or not isinstance(planned, ir.LazyTensor):
            continue
        uses = list(value.uses())
        value.const_value, value.type = source.const_value, source.type
        if source.dtype != planned.dtype:
            cast = editor.cast(value, planned.dtype)
            for use in uses:
                use.node.replace_input_with(use.idx, cast)
    clean_up(model)


@contextlib.contextmanager
def _written(model: ir.Model, folder: Path, name: str) -> Iterator[str]:
    ir.save(model, folder / name)
    try:
        yield name
    finally:
        (folder / name).unlink()
