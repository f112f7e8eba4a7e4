"""Lower the fp32 graph, whose weights are inputs, to the target: quantized, in its precision.

No weight is read here. Each becomes an initializer that is computed from the checkpoint when the
graph is saved, and is dropped after that.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnxruntime.transformers.float16 import convert_float_to_float16

from slmflow.config.schema.target import Algorithm
from slmflow.conversion.passes.graph import (
    WEIGHT,
    embedding_weight,
    is_weight,
    matmul_weight,
    static_values,
    value_name,
    weight_shape,
    weight_source,
)
from slmflow.conversion.passes.graph_editor import CONTRIB, GraphEditor, clean_up
from slmflow.conversion.quantization.blockwise import CodedScales, QuantizedWeight
from slmflow.conversion.quantization.schemes import ScaleType, Scheme

Tensors = Mapping[str, torch.Tensor]
Array = NDArray[Any]


def lower(
    model: ir.Model,
    tensors: Tensors,
    schemes: Mapping[str, Scheme],
    quantized: Mapping[str, QuantizedWeight],
    *,
    fp16: bool,
) -> None:
    """Lower the graph in place.

    tensors: float32 by their names in the checkpoint; schemes: of the weights to quantize, by their
    names in the graph; quantized: those that calibration has quantized, by the same names, while
    `Scheme.quantize` computes all others; fp16: compute in fp16 instead of fp32. Tensors and
    quantized weights are read only when the graph is saved, which raises ValueError for a weight
    that does not match its scheme or that only calibration can quantize.
    """
    if fp16:
        _convert_to_fp16(model)
    lowering = _Lowering(model, tensors, schemes, quantized, fp16=fp16)
    for node in list(model.graph):
        lowering.replace(node)
    clean_up(model)
    lowering.fold_weight_expressions()
    clean_up(model)
    for value in [value for value in model.graph.inputs if is_weight(value)]:
        model.graph.inputs.remove(value)


def _convert_to_fp16(model: ir.Model) -> None:
    """Convert the graph with ONNX Runtime's own tool while it holds no weights."""
    sources = {v.name: weight_source(v) for v in model.graph.inputs if is_weight(v)}
    proto = convert_float_to_float16(ir.to_proto(model), disable_shape_infer=True)
    model.graph = ir.from_proto(proto).graph
    for value in model.graph.inputs:
        if value.name in sources:
            value.meta[WEIGHT] = sources[value.name]


class _Lowering:
    """Replaces the nodes that read weights, and adds the initializers they read instead."""

    def __init__(
        self,
        model: ir.Model,
        tensors: Tensors,
        schemes: Mapping[str, Scheme],
        calibrated: Mapping[str, QuantizedWeight],
        *,
        fp16: bool,
    ) -> None:
        self._model = model
        self._editor = GraphEditor(model)
        self._schemes = schemes
        self._scales: dict[str, ir.Value] = {}
        self._float = ir.DataType.FLOAT16 if fp16 else ir.DataType.FLOAT

        sources = {value_name(v): weight_source(v) for v in model.graph.inputs if is_weight(v)}

        @functools.lru_cache(maxsize=1)  # rows of one tensor are read one after the other
        def tensor(name: str) -> torch.Tensor:
            return tensors[name]

        def read(name: str) -> torch.Tensor:
            source = sources[name]
            return tensor(source.name)[source.start : source.stop]

        @functools.lru_cache(maxsize=1)  # so are the parts of one quantized weight
        def quantized(name: str) -> QuantizedWeight:
            scheme = schemes[name]
            weight = calibrated.get(name)  # once: it may be read from disk
            if weight is None:
                weight = scheme.quantize(read(name))
            scheme.check(weight)
            return weight

        self._read, self._quantized = read, quantized

    def replace(self, node: ir.Node) -> None:
        """Replace a node if its weight is quantized, or tied to the embedding."""
        if (replacement := self._replacement(node)) is not None:
            self._editor.replace(node.outputs[0], replacement)

    def _replacement(self, node: ir.Node) -> ir.Value | None:
        if (weight := matmul_weight(node)) is not None:
            if scheme := self._schemes.get(value_name(weight)):
                return self._quantized_matmul(node, weight, scheme)
            is_tied = len(weight.uses()) > 1
            return self._transposed_matmul(node, weight) if is_tied else None
        if (weight := embedding_weight(node)) is not None:
            scheme = self._schemes.get(value_name(weight))
            return self._quantized_embedding(node, weight, scheme) if scheme else None
        return None

    def fold_weight_expressions(self) -> None:
        """Replace each value computed from weights alone with an initializer."""
        static = static_values(self._model.graph)
        weights_by_value = {
            value: _weights_of(value)
            for node in self._model.graph
            if not static.issuperset(node.outputs)
            for value in node.inputs
            if value in static
        }
        for value, weights in weights_by_value.items():
            if weights:
                self._fold(value, weights)

    def _quantized_matmul(self, node: ir.Node, weight: ir.Value, scheme: Scheme) -> ir.Value:
        rows, columns = weight_shape(weight)
        return self._editor.add(
            "MatMulNBits",
            [node.inputs[0], *self._quantized_initializers(weight, scheme)],
            f"{node.name}_Q{scheme.bits}",
            domain=CONTRIB,
            K=columns,
            N=rows,
            bits=scheme.bits,
            block_size=scheme.block_size,
            accuracy_level=scheme.accuracy_level,
        )

    def _transposed_matmul(self, node: ir.Node, weight: ir.Value) -> ir.Value:
        """Multiply with the embedding as it is stored: a transposed copy would double it."""
        return self._editor.add(
            "FusedMatMul",
            [node.inputs[0], weight],
            f"{node.name}_transposed",
            domain=CONTRIB,
            transB=1,
        )

    def _quantized_embedding(self, node: ir.Node, weight: ir.Value, scheme: Scheme) -> ir.Value:
        packed, scales, zero_points = self._quantized_initializers(weight, scheme)
        rows, columns = weight_shape(weight)
        flat = self._editor.integers([rows, columns * scheme.bits // 8])
        table = self._editor.add("Reshape", [packed, flat], f"{node.name}_table")
        return self._editor.add(
            "GatherBlockQuantized",
            [table, node.inputs[1], scales, zero_points],
            f"{node.name}_Q{scheme.bits}",
            domain=CONTRIB,
            gather_axis=0,
            quantize_axis=1,
            bits=scheme.bits,
            block_size=scheme.block_size,
        )

    def _quantized_initializers(
        self, weight: ir.Value, scheme: Scheme
    ) -> tuple[ir.Value, ir.Value, ir.Value | None]:
        """Add packed values, scales and zero points of a weight, as `QuantizedWeight` has them."""
        name, (rows, columns) = value_name(weight), weight_shape(weight)
        block_size, bits = scheme.block_size, scheme.bits
        blocks = -(-columns // block_size)
        packed = self._lazy_initializer(
            f"{name}_Q{bits}",
            ir.DataType.UINT8,
            (rows, blocks, block_size * bits // 8),
            lambda: self._quantized(name).packed,
        )
        if name not in self._scales:  # two nodes read those of a tied weight
            self._scales[name] = self._add_scales(name, (rows, blocks), scheme.scale_type)
        scales = self._scales[name]
        if scheme.symmetric:
            return packed, scales, None
        # Zero points of hqq are floats; all others are packed as the weights are.
        is_float = scheme.algorithm is Algorithm.hqq
        zero_points = self._lazy_initializer(
            f"{name}_zero_points",
            self._float if is_float else ir.DataType.UINT8,
            (rows, blocks if is_float else -(-blocks * bits // 8)),
            lambda: self._quantized(name).zero_points,
        )
        return packed, scales, zero_points

    def _add_scales(self, name: str, shape: tuple[int, int], scale_type: ScaleType) -> ir.Value:
        """Add the scales of a weight as they are stored; return them in the graph's precision."""
        dtype = ir.DataType.FLOAT16 if scale_type is ScaleType.float16 else ir.DataType.FLOAT
        if scale_type is ScaleType.int8:
            scales = self._add_coded_scales(name, shape)
        else:
            scales = self._lazy_initializer(
                f"{name}_scales", dtype, shape, lambda: self._quantized(name).scales
            )
        return scales if dtype is self._float else self._editor.cast(scales, self._float)

    def _add_coded_scales(self, name: str, shape: tuple[int, int]) -> ir.Value:
        """Add codes and row scales, and their product, which ONNX Runtime computes when it loads.

        So scales take a quarter of the bytes on disk, and the kernels read float32 as they must.
        """
        codes = self._lazy_initializer(
            f"{name}_scale_codes", ir.DataType.INT8, shape, lambda: self._coded(name).codes
        )
        rows = self._lazy_initializer(
            f"{name}_row_scales", ir.DataType.FLOAT, (shape[0], 1), lambda: self._coded(name).rows
        )
        factors = [self._editor.cast(codes, ir.DataType.FLOAT), rows]
        return self._editor.add("Mul", factors, f"{name}_scales")

    def _coded(self, name: str) -> CodedScales:
        coded = self._quantized(name).coded_scales
        if coded is None:
            raise ValueError(f"{name}: its scheme has coded scales, the quantized weight has none")
        return coded

    def _fold(self, value: ir.Value, weights: Sequence[str]) -> None:
        name, compute = weights[0], lambda: self._read(weights[0]).numpy()
        if (producer := value.producer()) is not None:
            name, compute = f"{name}.{producer.op_type.lower()}", self._evaluator(value, weights)
        folded = self._lazy_initializer(name, self._float, weight_shape(value), compute)
        ir.convenience.replace_all_uses_with(value, folded)

    def _evaluator(self, value: ir.Value, weights: Sequence[str]) -> Callable[[], Array]:
        """Return a function that computes a value from weights with ONNX's reference operators."""
        graph = ir.convenience.extract(self._model.graph, inputs=weights, outputs=[value])
        proto = ir.to_proto(ir.Model(graph, ir_version=self._model.ir_version))

        def evaluate() -> Array:
            # In the graph's own precision, which its constants have too.
            dtype = self._float.numpy()
            inputs = {name: self._read(name).numpy().astype(dtype) for name in weights}
            result: Array = ReferenceEvaluator(proto).run(None, inputs)[0]  # type: ignore[index]
            return result

        return evaluate

    def _lazy_initializer(
        self, name: str, dtype: ir.DataType, shape: Sequence[int], compute: Callable[[], Any]
    ) -> ir.Value:
        """Return the initializer of this name, whose array is computed when the graph is saved."""
        initializers = self._model.graph.initializers
        if name not in initializers:
            tensor = ir.LazyTensor(
                lambda: ir.tensor(np.ascontiguousarray(compute(), dtype=dtype.numpy())),
                dtype=dtype,
                shape=ir.Shape(shape),
                name=name,
            )
            initializers[name] = ir.Value(
                name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype), const_value=tensor
            )
        return initializers[name]


def _weights_of(value: ir.Value | None) -> list[str]:
    """Return the names of the weights that a value is computed from."""
    if value is None or is_weight(value):
        return [] if value is None else [value_name(value)]
    node = value.producer()
    return sorted({name for v in (node.inputs if node else ()) for name in _weights_of(v)})
