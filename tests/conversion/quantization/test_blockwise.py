"""Quantized weights, against onnxruntime's own quantizer and its own kernels."""

import itertools
import logging
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import (
    HQQWeightOnlyQuantConfig,
    KQuantWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)

from slmflow.config.schema.target import Algorithm, Quantization
from slmflow.console.messages import quiet
from slmflow.conversion.quantization import blockwise
from slmflow.conversion.quantization.blockwise import QuantizedWeight, dequantize, quantize

Array = NDArray[Any]
RTN, K_QUANT, HQQ = Algorithm
SCHEMES = [
    scheme
    for scheme in itertools.product(Algorithm, (4, 8), (16, 32, 64, 128, 256), (True, False))
    if not list(Quantization(scheme[1], scheme[2], scheme[3], 0, scheme[0]).problems())
]
schemes = pytest.mark.parametrize(("algorithm", "bits", "block_size", "symmetric"), SCHEMES)


def _weight(rows: int, columns: int) -> NDArray[np.float32]:
    generator = np.random.default_rng([rows, columns])
    weight = generator.standard_normal((rows, columns), dtype=np.float32)
    weight[0, :16] = 0  # a block without a range
    return weight


def _model(
    nodes: Sequence[onnx.NodeProto], inputs: dict[str, tuple[int, Any]], weights: dict[str, Array]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None) for node in nodes],
        [numpy_helper.from_array(np.ascontiguousarray(w), name) for name, w in weights.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _run(model: onnx.ModelProto, inputs: Array) -> Array:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    [output] = session.run(None, {"x": inputs})
    return output


def _initializers(quantized: QuantizedWeight) -> dict[str, Array]:
    named = {"packed": quantized.packed, "scales": quantized.scales}
    if quantized.zero_points is not None:
        named["zero_points"] = quantized.zero_points
    return named


def _multiply(quantized: QuantizedWeight, inputs: Array, accuracy_level: int = 0) -> Array:
    weights = _initializers(quantized)
    node = helper.make_node(
        "MatMulNBits",
        ["x", *weights],
        ["y"],
        domain="com.microsoft",
        K=quantized.columns,
        N=len(quantized.packed),
        bits=quantized.bits,
        block_size=quantized.block_size,
        accuracy_level=accuracy_level,
    )
    x = (TensorProto.FLOAT, ["n", quantized.columns])
    return _run(_model([node], {"x": x}, weights), inputs)


def _gather(quantized: QuantizedWeight, ids: Array) -> Array:
    weights = _initializers(quantized)
    weights["packed"] = quantized.packed.reshape(len(quantized.packed), -1)
    node = helper.make_node(
        "GatherBlockQuantized",
        ["packed", "x", *list(weights)[1:]],
        ["y"],
        domain="com.microsoft",
        gather_axis=0,
        quantize_axis=1,
        bits=quantized.bits,
        block_size=quantized.block_size,
    )
    return _run(_model([node], {"x": (TensorProto.INT64, ["n"])}, weights), ids)


def _by_onnxruntime(
    weights: Sequence[Array], algorithm: Algorithm, bits: int, block_size: int, symmetric: bool
) -> list[list[bytes]]:
    """Quantize a model that multiplies with each weight; return what its nodes then hold."""
    nodes, inputs, transposed = [], {}, {}
    for i, weight in enumerate(weights):
        nodes.append(helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"y{i}"], name=f"node{i}"))
        inputs[f"x{i}"] = (TensorProto.FLOAT, ["n", weight.shape[1]])
        transposed[f"w{i}"] = weight.T
    each = {node.name: {"bits": bits, "group_size": block_size} for node in nodes}
    quantizer = MatMulNBitsQuantizer(
        _model(nodes, inputs, transposed),
        bits=bits,
        block_size=block_size,
        is_symmetric=symmetric,
        algo_config={
            RTN: None,
            K_QUANT: KQuantWeightOnlyQuantConfig(customized_weight_config=each),
            HQQ: HQQWeightOnlyQuantConfig(block_size=block_size, bits=bits),
        }[algorithm],
    )
    with quiet():
        quantizer.process()
    graph = quantizer.model.model.graph
    held = {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in graph.initializer}
    by_output = {node.output[0]: list(node.input)[1:] for node in graph.node}
    return [[held[name] for name in by_output[f"y{i}"]] for i in range(len(weights))]


@schemes
def test_bytes_are_those_onnxruntime_writes(
    algorithm: Algorithm, bits: int, block_size: int, symmetric: bool
) -> None:
    # Even numbers of blocks, or one row: onnxruntime cannot pack other zero points of k_quant.
    weights = [_weight(9, 512), _weight(6, 500), _weight(1, 600), _weight(1, block_size - 3)]
    if (algorithm, bits) != (K_QUANT, 4):
        weights += [_weight(5, 600), _weight(7, block_size), _weight(7, block_size - 3)]

    found = [
        quantize(w, bits=bits, block_size=block_size, symmetric=symmetric, algorithm=algorithm)
        for w in weights
    ]

    expected = _by_onnxruntime(weights, algorithm, bits, block_size, symmetric)
    assert [[a.tobytes() for a in _initializers(q).values()] for q in found] == expected


@schemes
@pytest.mark.parametrize("columns", [512, 600])
def test_dequantized_is_what_the_kernel_multiplies_with(
    algorithm: Algorithm, bits: int, block_size: int, symmetric: bool, columns: int
) -> None:
    quantized = quantize(
        weight := _weight(17, columns),
        bits=bits,
        block_size=block_size,
        symmetric=symmetric,
        algorithm=algorithm,
    )

    values = dequantize(quantized)

    assert values.shape == weight.shape
    assert values.dtype == np.float32
    identity = np.eye(columns, dtype=np.float32)
    np.testing.assert_allclose(values, _multiply(quantized, identity).T, rtol=0, atol=1e-6)
    # The step between two values is the scale, and most are off by no more than half of it.
    steps = np.repeat(np.abs(quantized.scales), block_size, axis=1)[:, :columns]
    assert np.mean(np.abs(values - weight) <= 0.51 * steps) > 0.9


@schemes
def test_int8_multiplication_is_near(
    algorithm: Algorithm, bits: int, block_size: int, symmetric: bool
) -> None:
    quantized = quantize(
        _weight(17, 600),
        bits=bits,
        block_size=block_size,
        symmetric=symmetric,
        algorithm=algorithm,
    )
    inputs = _weight(5, 600)

    exact = inputs @ dequantize(quantized).T

    error = _multiply(quantized, inputs, accuracy_level=4) - exact
    assert np.linalg.norm(error) < 0.02 * np.linalg.norm(exact)


@pytest.mark.parametrize(
    ("algorithm", "bits", "block_size", "symmetric"), [s for s in SCHEMES if s[0] is not HQQ]
)
def test_an_embedding_reads_the_same_bytes(
    algorithm: Algorithm, bits: int, block_size: int, symmetric: bool
) -> None:
    quantized = quantize(
        _weight(35, 768),  # three blocks of 256: an odd number of zero points
        bits=bits,
        block_size=block_size,
        symmetric=symmetric,
        algorithm=algorithm,
    )
    ids = np.array([34, 0, 7, 7])

    assert blockwise.gatherable(768, block_size, algorithm)
    np.testing.assert_array_equal(_gather(quantized, ids), dequantize(quantized)[ids])


def test_an_embedding_cannot_have_padding_or_float_zero_points() -> None:
    padded = quantize(_weight(3, 40), bits=4, block_size=32, symmetric=True, algorithm=RTN)

    assert _gather(padded, np.array([1])).shape == (1, 64)
    assert not blockwise.gatherable(40, 32, RTN)
    assert not blockwise.gatherable(64, 32, HQQ)


@pytest.mark.parametrize(("algorithm", "symmetric"), [(RTN, True), (RTN, False), (K_QUANT, False)])
@pytest.mark.parametrize("block_size", [16, 128])
def test_bytes_do_not_depend_on_slabs(
    algorithm: Algorithm, symmetric: bool, block_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = _weight(61, 100)

    def held() -> list[bytes]:
        quantized = quantize(
            weight, bits=4, block_size=block_size, symmetric=symmetric, algorithm=algorithm
        )
        values = dequantize(quantized).tobytes()
        return [values, *(a.tobytes() for a in _initializers(quantized).values())]

    whole = held()
    for name in ("_SLAB", "_CACHED_SLAB"):
        monkeypatch.setattr(blockwise, name, 1000)  # six slabs of ten rows, and one row

    assert held() == whole


def test_hqq_leaves_torch_its_threads() -> None:
    threads = torch.get_num_threads()

    quantize(_weight(3, 40), bits=4, block_size=32, symmetric=False, algorithm=HQQ)

    assert torch.get_num_threads() == threads


def test_a_weight_that_cannot_be_written_to_is_taken() -> None:
    weight = _weight(5, 64)
    weight.flags.writeable = False

    for algorithm in Algorithm:
        quantize(weight, bits=4, block_size=32, symmetric=False, algorithm=algorithm)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_no_log_is_turned_on(algorithm: Algorithm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quantizer's module configures the root logger when it is imported."""
    module = "onnxruntime.quantization.matmul_nbits_quantizer"
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr(module)
    monkeypatch.setattr(logging.root, "handlers", [])
    level = logging.root.level

    quantize(_weight(3, 32), bits=4, block_size=32, symmetric=False, algorithm=algorithm)

    assert (logging.root.handlers, logging.root.level) == ([], level)


@pytest.mark.parametrize(
    ("shape", "scheme", "said"),
    [
        ((16,), (4, True, RTN), "cannot be quantized"),
        ((2, 16, 16), (4, True, RTN), "cannot be quantized"),
        ((0, 16), (4, True, RTN), "cannot be quantized"),
        ((2, 16), (4, True, K_QUANT), "k_quant has no symmetric form"),
        ((2, 16), (8, False, HQQ), "hqq at 8 bits"),
    ],
)
def test_what_onnxruntime_has_not_is_refused(
    shape: tuple[int, ...], scheme: tuple[int, bool, Algorithm], said: str
) -> None:
    bits, symmetric, algorithm = scheme

    with pytest.raises(ValueError, match=said):
        quantize(
            np.ones(shape, dtype=np.float32),
            bits=bits,
            block_size=16,
            symmetric=symmetric,
            algorithm=algorithm,
        )


def test_modules_are_named_by_patterns() -> None:
    modules = ["lm_head", "model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"]

    assert [m for m in modules if blockwise.matches(["*.down_proj"], m)] == modules[1:]
    assert [m for m in modules if blockwise.matches(["lm_head", "*.[1-9].*"], m)] == [
        "lm_head",
        "model.layers.1.mlp.down_proj",
    ]
    assert blockwise.unmatched(["lm_head", "down_proj", "*.UP_PROJ"], iter(modules)) == [
        "down_proj",
        "*.UP_PROJ",
    ]
