"""From the fp32 graph, whose weights are inputs, to the target's: quantized, in its precision.

No weight is read here. Each becomes an initializer that is computed from the checkpoint when it is
written, and forgotten then.
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

from slmflow.config.schema.target import Algorithm, Quantization
from slmflow.conversion.passes.graph import (
    CONTRIB,
    WEIGHT,
    Builder,
    embedded_weight,
    finish,
    fixed_values,
    is_weight,
    multiplied_weight,
    name_of,
    shape_of,
    source_of,
)
from slmflow.conversion.quantization import schemes
from slmflow.conversion.quantization.blockwise import QuantizedWeight
from slmflow.conversion.quantization.schemes import Scheme

Tensors = Mapping[str, torch.Tensor]
Array = NDArray[Any]


def lower(
    model: ir.Model, tensors: Tensors, quantization: Quantization | None, *, half: bool
) -> dict[str, Scheme]:
    """Bring the graph to the target's form in place; return how which weights are quantized.

    tensors: float32 by the names of the graph's weights, read only when the graph is saved; half:
    compute in fp16. Raises UserError as `schemes.choose` does.
    """
    if half:
        _halve(model)
    chosen = schemes.choose(model.graph, quantization)
    lowering = _Lowering(model, tensors, chosen, half=half)
    for node in list(model.graph):
        lowering.replace(node)
    finish(model)
    lowering.plan_rest()
    finish(model)
    for value in [value for value in model.graph.inputs if is_weight(value)]:
        model.graph.inputs.remove(value)
    return chosen


def _halve(model: ir.Model) -> None:
    """Turn the graph to fp16 by ONNX Runtime's own tool, while no weights are in it."""
    weights = {v.name: source_of(v) for v in model.graph.inputs if is_weight(v)}
    proto = convert_float_to_float16(ir.to_proto(model), disable_shape_infer=True)
    model.graph = ir.from_proto(proto).graph
    for value in model.graph.inputs:
        if value.name in weights:
            value.meta[WEIGHT] = weights[value.name]


class _Lowering:
    """Replaces nodes that read weights, and plans the tensors that they read instead."""

    def __init__(
        self, model: ir.Model, tensors: Tensors, chosen: Mapping[str, Scheme], *, half: bool
    ) -> None:
        self._model = model
        self._build = Builder(model)
        self._chosen = chosen
        self._float = ir.DataType.FLOAT16 if half else ir.DataType.FLOAT

        sources = {name_of(v): source_of(v) for v in model.graph.inputs if is_weight(v)}

        @functools.lru_cache(maxsize=1)  # rows of one tensor are used one after the other
        def tensor(name: str) -> torch.Tensor:
            return tensors[name]

        def read(name: str) -> torch.Tensor:
            source = sources[name]
            return tensor(source.name)[source.start : source.stop]

        @functools.lru_cache(maxsize=1)  # so are the parts of a quantized weight
        def quantized(name: str) -> QuantizedWeight:
            return chosen[name].apply(read(name))

        self._read, self._quantized = read, quantized

    def replace(self, node: ir.Node) -> None:
        """Replace a node whose weight is quantized, or tied to the embedding."""
        if (made := self._replacement(node)) is not None:
            self._build.replace(node.outputs[0], made)

    def _replacement(self, node: ir.Node) -> ir.Value | None:
        if (weight := multiplied_weight(node)) is not None:
            if scheme := self._chosen.get(name_of(weight)):
                return self._multiply(node, weight, scheme)
            tied = len(weight.uses()) > 1
            return self._multiply_transposed(node, weight) if tied else None
        weight = embedded_weight(node)
        scheme = self._chosen.get(name_of(weight)) if weight is not None else None
        return self._embed(node, weight, scheme) if weight is not None and scheme else None

    def plan_rest(self) -> None:
        """Plan every value that is made of weights alone and read by what is not."""
        fixed = fixed_values(self._model.graph)
        read = {
            value: _weights_of(value)
            for node in self._model.graph
            if not fixed.issuperset(node.outputs)
            for value in node.inputs
            if value in fixed
        }
        for value, names in read.items():
            if names:
                self._fold(value, names)

    def _multiply(self, node: ir.Node, weight: ir.Value, scheme: Scheme) -> ir.Value:
        rows, columns = shape_of(weight)
        return self._build.add(
            "MatMulNBits",
            [node.inputs[0], *self._parts(weight, scheme)],
            f"{node.name}_Q{scheme.bits}",
            domain=CONTRIB,
            K=columns,
            N=rows,
            bits=scheme.bits,
            block_size=scheme.quantization.block_size,
            accuracy_level=scheme.quantization.accuracy_level,
        )

    def _multiply_transposed(self, node: ir.Node, weight: ir.Value) -> ir.Value:
        """Multiply with the embedding as it lies there: a transposed copy would be a second."""
        return self._build.add(
            "FusedMatMul",
            [node.inputs[0], weight],
            f"{node.name}_transposed",
            domain=CONTRIB,
            transB=1,
        )

    def _embed(self, node: ir.Node, weight: ir.Value, scheme: Scheme) -> ir.Value:
        packed, scales, zero_points = self._parts(weight, scheme)
        rows, columns = shape_of(weight)
        flat = self._build.integers([rows, columns * scheme.bits // 8])
        table = self._build.add("Reshape", [packed, flat], f"{node.name}_table")
        return self._build.add(
            "GatherBlockQuantized",
            [table, node.inputs[1], scales, zero_points],
            f"{node.name}_Q{scheme.bits}",
            domain=CONTRIB,
            gather_axis=0,
            quantize_axis=1,
            bits=scheme.bits,
            block_size=scheme.quantization.block_size,
        )

    def _parts(
        self, weight: ir.Value, scheme: Scheme
    ) -> tuple[ir.Value, ir.Value, ir.Value | None]:
        """Plan packed values, scales and zero points of a weight, as `QuantizedWeight` has them."""
        name, (rows, columns) = name_of(weight), shape_of(weight)
        block, bits = scheme.quantization.block_size, scheme.bits
        blocks = -(-columns // block)
        packed = self._plan(
            f"{name}_Q{bits}",
            ir.DataType.UINT8,
            (rows, blocks, block * bits // 8),
            lambda: self._quantized(name).packed,
        )
        scales = self._plan(
            f"{name}_scales", self._float, (rows, blocks), lambda: self._quantized(name).scales
        )
        if scheme.quantization.symmetric:
            return packed, scales, None
        # hqq's are numbers, the others' are packed as the weights are.
        floats = scheme.quantization.algorithm is Algorithm.hqq
        zero_points = self._plan(
            f"{name}_zero_points",
            self._float if floats else ir.DataType.UINT8,
            (rows, blocks if floats else -(-blocks * bits // 8)),
            lambda: self._quantized(name).zero_points,
        )
        return packed, scales, zero_points

    def _fold(self, value: ir.Value, names: Sequence[str]) -> None:
        producer = value.producer()
        if producer is None:
            planned = self._plan(names[0], self._float, shape_of(value), self._reader(names[0]))
        else:
            name = f"{names[0]}.{producer.op_type.lower()}"
            evaluate = self._evaluator(value, names)
            planned = self._plan(name, self._float, shape_of(value), evaluate)
        ir.convenience.replace_all_uses_with(value, planned)

    def _reader(self, name: str) -> Callable[[], Array]:
        return lambda: self._read(name).numpy()

    def _evaluator(self, value: ir.Value, names: Sequence[str]) -> Callable[[], Array]:
        """Return what computes a value from weights, by ONNX's own reference operators."""
        graph = ir.convenience.extract(self._model.graph, inputs=names, outputs=[value])
        proto = ir.to_proto(ir.Model(graph, ir_version=self._model.ir_version))

        def evaluate() -> Array:
            # As the graph computes: its constants are of that precision too.
            kind = self._float.numpy()
            given = {name: self._read(name).numpy().astype(kind) for name in names}
            result: Array = ReferenceEvaluator(proto).run(None, given)[0]  # type: ignore[index]
            return result

        return evaluate

    def _plan(
        self, name: str, kind: ir.DataType, shape: Sequence[int], make: Callable[[], Any]
    ) -> ir.Value:
        """Return the initializer of this name, whose array is made when it is saved."""
        initializers = self._model.graph.initializers
        if name not in initializers:
            tensor = ir.LazyTensor(
                lambda: ir.tensor(np.ascontiguousarray(make(), dtype=kind.numpy())),
                dtype=kind,
                shape=ir.Shape(shape),
                name=name,
            )
            initializers[name] = ir.Value(
                name=name, shape=ir.Shape(shape), type=ir.TensorType(kind), const_value=tensor
            )
        return initializers[name]


def _weights_of(value: ir.Value | None) -> list[str]:
    """Return the names of the weights that a value is made of."""
    if value is None or is_weight(value):
        return [] if value is None else [name_of(value)]
    node = value.producer()
    return sorted({name for v in (node.inputs if node else ()) for name in _weights_of(v)})
