"""Quantized weights, against ONNX Runtime's own quantizer and kernels."""

import itertools
import logging
import sys
from collections.abc import Sequence
from typing import Any, TypedDict

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
from slmflow.console.library_output import silence
from slmflow.conversion.quantization import algorithms, blockwise
from slmflow.conversion.quantization.algorithms import quantize
from slmflow.conversion.quantization.blockwise import QuantizedWeight, dequantize

Array = NDArray[Any]
RTN, K_QUANT, HQQ = DATA_FREE = (Algorithm.rtn, Algorithm.k_quant, Algorithm.hqq)


class Options(TypedDict):
    """Keyword arguments of `quantize`."""

    algorithm: Algorithm
    bits: int
    block_size: int
    symmetric: bool


ALL_OPTIONS = [
    Options(algorithm=algorithm, bits=bits, block_size=block_size, symmetric=symmetric)
    for algorithm, bits, block_size, symmetric in itertools.product(
        DATA_FREE, (4, 8), (16, 32, 64, 128, 256), (True, False)
    )
    if not list(Quantization(bits, block_size, symmetric, 0, algorithm).problems())
]


def _name(options: Options) -> str:
    return "-".join(str(getattr(value, "value", value)) for value in options.values())


all_options = pytest.mark.parametrize("options", ALL_OPTIONS, ids=_name)
RTN_4 = Options(algorithm=RTN, bits=4, block_size=32, symmetric=True)


def _weight(rows: int, columns: int) -> NDArray[np.float32]:
    """Return a read-only weight: the arrays of a memory-mapped checkpoint are read-only too."""
    generator = np.random.default_rng([rows, columns])
    weight = generator.standard_normal((rows, columns), dtype=np.float32)
    weight[0, :16] = 0  # a block of equal weights
    weight.flags.writeable = False
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


def _initializers(quantized: QuantizedWeight) -> dict[str, Array]:
    named = {"packed": quantized.packed, "scales": quantized.scales}
    if quantized.zero_points is not None:
        named["zero_points"] = quantized.zero_points
    return named


def _run(
    operator: str, quantized: QuantizedWeight, inputs: dict[str, Array], **attributes: Any
) -> Array:
    """Run an operator of ONNX Runtime; its inputs are constants, except for `x`."""
    node = helper.make_node(
        operator,
        list(inputs),
        ["y"],
        domain="com.microsoft",
        bits=quantized.bits,
        block_size=quantized.block_size,
        **attributes,
    )
    x = inputs["x"]
    constants = {name: array for name, array in inputs.items() if name != "x"}
    kind = (helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
    model = _model([node], {"x": kind}, constants).SerializeToString()
    [output] = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    return output


def _multiply(quantized: QuantizedWeight, x: Array, accuracy_level: int = 0) -> Array:
    inputs = {"x": x, **_initializers(quantized)}
    sizes = {"K": quantized.columns, "N": len(quantized.packed)}
    return _run("MatMulNBits", quantized, inputs, **sizes, accuracy_level=accuracy_level)


def _gather(quantized: QuantizedWeight, ids: Array) -> Array:
    constants = _initializers(quantized)
    table = constants.pop("packed").reshape(len(quantized.packed), -1)
    inputs = {"table": table, "x": ids, **constants}
    return _run("GatherBlockQuantized", quantized, inputs, gather_axis=0, quantize_axis=1)


def _quantize_with_onnxruntime(weights: Sequence[Array], options: Options) -> list[list[bytes]]:
    """Quantize a model that multiplies with each weight; return the constants of its nodes."""
    nodes, inputs, transposed = [], {}, {}
    for i, weight in enumerate(weights):
        nodes.append(helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"y{i}"], name=f"node{i}"))
        inputs[f"x{i}"] = (TensorProto.FLOAT, ["n", weight.shape[1]])
        transposed[f"w{i}"] = weight.T
    bits, block_size = options["bits"], options["block_size"]
    k_quant_options = {node.name: {"bits": bits, "group_size": block_size} for node in nodes}
    quantizer = MatMulNBitsQuantizer(
        _model(nodes, inputs, transposed),
        bits=bits,
        block_size=block_size,
        is_symmetric=options["symmetric"],
        algo_config={
            RTN: None,
            K_QUANT: KQuantWeightOnlyQuantConfig(customized_weight_config=k_quant_options),
            HQQ: HQQWeightOnlyQuantConfig(block_size=block_size, bits=bits),
        }[options["algorithm"]],
    )
    with silence():
        quantizer.process()
    graph = quantizer.model.model.graph
    constants = {t.name: numpy_helper.to_array(t).tobytes() for t in graph.initializer}
    by_output = {node.output[0]: list(node.input)[1:] for node in graph.node}
    return [[constants[name] for name in by_output[f"y{i}"]] for i in range(len(weights))]


@all_options
def test_bytes_equal_onnxruntimes(options: Options) -> None:
    # Even numbers of blocks, or one row: onnxruntime cannot pack other zero points of k_quant.
    weights = [_weight(9, 512), _weight(6, 500), _weight(1, 600)]
    block_size = options["block_size"]
    weights.append(_weight(1, block_size - 3))
    if (options["algorithm"], options["bits"]) != (K_QUANT, 4):
        weights += [_weight(5, 600), _weight(7, block_size), _weight(7, block_size - 3)]

    quantized = [_initializers(quantize(weight, **options)) for weight in weights]

    expected = _quantize_with_onnxruntime(weights, options)
    assert [[array.tobytes() for array in each.values()] for each in quantized] == expected


@all_options
@pytest.mark.parametrize("columns", [512, 600])
def test_dequantized_values_equal_the_kernels(options: Options, columns: int) -> None:
    weight = _weight(17, columns)
    quantized = quantize(weight, **options)

    values = dequantize(quantized)

    assert values.shape == weight.shape
    assert values.dtype == np.float32
    identity = np.eye(columns, dtype=np.float32)
    np.testing.assert_allclose(values, _multiply(quantized, identity).T, rtol=0, atol=1e-6)
    # Two neighboring values differ by the scale, and most weights are off by at most half of it.
    steps = np.repeat(np.abs(quantized.scales), options["block_size"], axis=1)[:, :columns]
    assert np.mean(np.abs(values - weight) <= 0.51 * steps) > 0.9


@all_options
def test_int8_multiplication_is_close(options: Options) -> None:
    quantized = quantize(_weight(17, 600), **options)
    inputs = _weight(5, 600)

    exact = inputs @ dequantize(quantized).T

    error = _multiply(quantized, inputs, accuracy_level=4) - exact
    assert np.linalg.norm(error) < 0.02 * np.linalg.norm(exact)


@pytest.mark.parametrize(
    "options", [o for o in ALL_OPTIONS if o["algorithm"] is not HQQ], ids=_name
)
def test_embedding_rows_equal_dequantized_rows(options: Options) -> None:
    # Of 768 columns: three blocks of 256 are an odd number of zero points.
    quantized = quantize(_weight(35, 768), **options)
    ids = np.array([34, 0, 7, 7])

    assert blockwise.is_gatherable(768, options["block_size"], options["algorithm"])
    np.testing.assert_array_equal(_gather(quantized, ids), dequantize(quantized)[ids])


def test_padding_and_float_zero_points_are_not_gatherable() -> None:
    padded = quantize(_weight(3, 40), **RTN_4)

    assert _gather(padded, np.array([1])).shape == (1, 64)
    assert not blockwise.is_gatherable(40, 32, RTN)
    assert not blockwise.is_gatherable(64, 32, HQQ)


@pytest.mark.parametrize(("algorithm", "symmetric"), [(RTN, True), (RTN, False), (K_QUANT, False)])
@pytest.mark.parametrize("block_size", [16, 128])
def test_bytes_do_not_depend_on_slabs(
    algorithm: Algorithm, symmetric: bool, block_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = _weight(61, 100)

    def quantized_bytes() -> list[bytes]:
        quantized = quantize(
            weight, bits=4, block_size=block_size, symmetric=symmetric, algorithm=algorithm
        )
        values = dequantize(quantized).tobytes()
        return [values, *(array.tobytes() for array in _initializers(quantized).values())]

    whole = quantized_bytes()
    # Six slabs of ten rows, and one row.
    monkeypatch.setattr(algorithms, "_SLAB", 1000)
    monkeypatch.setattr(blockwise, "CACHED_SLAB", 1000)

    assert quantized_bytes() == whole


def test_hqq_restores_torchs_threads() -> None:
    threads = torch.get_num_threads()

    quantize(_weight(3, 40), bits=4, block_size=32, symmetric=False, algorithm=HQQ)

    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("algorithm", DATA_FREE)
def test_import_leaves_the_root_logger_alone(
    algorithm: Algorithm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quantizer's module configures the root logger when it is imported."""
    module = "onnxruntime.quantization.matmul_nbits_quantizer"
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr(module)
    monkeypatch.setattr(logging.root, "handlers", [])
    level = logging.root.level

    quantize(_weight(3, 32), bits=4, block_size=32, symmetric=False, algorithm=algorithm)

    assert (logging.root.handlers, logging.root.level) == ([], level)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((16,), RTN_4, "cannot be quantized"),
        ((2, 16, 16), RTN_4, "cannot be quantized"),
        ((0, 16), RTN_4, "cannot be quantized"),
        ((2, 16), RTN_4 | {"algorithm": K_QUANT}, "k_quant has no symmetric form"),
        ((2, 16), RTN_4 | {"algorithm": HQQ, "symmetric": False, "bits": 8}, "hqq at 8 bits"),
        ((2, 16), RTN_4 | {"algorithm": Algorithm.gptq}, "gptq is computed by calibration"),
    ],
)
def test_unsupported_quantization_is_rejected(
    shape: tuple[int, ...], options: Options, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        quantize(np.ones(shape, dtype=np.float32), **options)
