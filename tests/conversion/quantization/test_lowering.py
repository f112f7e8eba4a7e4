"""Lowered graphs on disk, run by ONNX Runtime: coded scales, and a scheme for each weight."""

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from slmflow.config.schema.target import Algorithm
from slmflow.conversion.onnx_files import GRAPH_FILE, WEIGHTS_FILE, save
from slmflow.conversion.passes.graph import WEIGHT, WeightSource
from slmflow.conversion.quantization.blockwise import QuantizedWeight, dequantize
from slmflow.conversion.quantization.lowering import lower
from slmflow.conversion.quantization.schemes import ScaleType, Scheme
from tests.conversion.quantization import coded_rounding
from tests.conversion.quantization.coded_rounding import quantize_as

Array = NDArray[Any]

FORMATS = list(itertools.product((4, 8), (16, 32, 64, 128, 256), (True, False)))
all_formats = pytest.mark.parametrize(("bits", "block_size", "symmetric"), FORMATS)

# Enough rows that all parts of the weight are external data.
ROWS, PADDED_COLUMNS, GATHERABLE_COLUMNS = 300, 600, 768


def _weight(rows: int, columns: int) -> torch.Tensor:
    generator = np.random.default_rng([rows, columns])
    return torch.from_numpy(generator.standard_normal((rows, columns), dtype=np.float32))


def _coded(
    bits: int = 4, block_size: int = 32, symmetric: bool = True, name: str = "weight"
) -> Scheme:
    """Return a scheme that multiplies with the exact values."""
    return Scheme(
        WeightSource(name), bits, block_size, symmetric, Algorithm.gptq, 0, ScaleType.int8
    )


def _model(shapes: Mapping[str, tuple[int, int]], embedded: frozenset[str]) -> ir.Model:
    """Build a graph as traced: y.NAME = x.NAME @ NAME.T, and e.NAME = NAME[ids] if embedded."""
    inputs, outputs, nodes = [], [], []

    def value(name: str, dtype: ir.DataType, shape: tuple[int | str, ...]) -> ir.Value:
        return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))

    def add(operator: str, operands: list[ir.Value], output: str, **attributes: Any) -> ir.Value:
        node = ir.node(operator, operands, attributes, name=f"/{output}/{operator}")
        node.outputs[0].name = output
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        nodes.append(node)
        return node.outputs[0]

    for name, (rows, columns) in shapes.items():
        weight = value(name, ir.DataType.FLOAT, (rows, columns))
        weight.meta[WEIGHT] = WeightSource(name)
        x = value(f"x.{name}", ir.DataType.FLOAT, ("n", columns))
        inputs += [weight, x]
        transposed = add("Transpose", [weight], f"t.{name}", perm=[1, 0])
        transposed.shape = ir.Shape((columns, rows))
        outputs.append(add("MatMul", [x, transposed], f"y.{name}"))
        if name in embedded:
            ids = value(f"ids.{name}", ir.DataType.INT64, ("n",))
            inputs.append(ids)
            outputs.append(add("Gather", [weight, ids], f"e.{name}", axis=0))
    graph = ir.Graph(inputs, outputs, nodes=nodes, opset_imports={"": 21}, name="graph")
    return ir.Model(graph, ir_version=10)


@dataclass(frozen=True)
class Written:
    """A lowered graph on disk."""

    folder: Path

    def proto(self) -> onnx.GraphProto:
        """Return the graph, its external data as references."""
        return onnx.load(self.folder / GRAPH_FILE, load_external_data=False).graph

    def operators(self) -> Counter[str]:
        """Return how often each operator occurs."""
        return Counter(node.op_type for node in self.proto().node)

    def session(self, **options: Any) -> ort.InferenceSession:
        """Load the graph with ONNX Runtime."""
        settings = ort.SessionOptions()
        for key, setting in options.items():
            setattr(settings, key, setting)
        return ort.InferenceSession(
            self.folder / GRAPH_FILE, settings, providers=["CPUExecutionProvider"]
        )

    def product(self, name: str = "weight") -> Array:
        """Return what the graph computes for the transposed weight: float32 [N, K]."""
        session = self.session()
        [x] = [each for each in session.get_inputs() if each.name == f"x.{name}"]
        dtype = np.float16 if "float16" in x.type else np.float32
        # All other inputs are needed too; they are read by other nodes.
        inputs = {
            each.name: np.zeros(1, np.int64)
            if each.name.startswith("ids")
            else np.eye(each.shape[1], dtype=dtype)
            for each in session.get_inputs()
        }
        [y] = session.run([f"y.{name}"], inputs)
        return np.asarray(y, dtype=np.float32).T

    def rows(self, ids: Array) -> Array:
        """Return rows that the graph reads from the embedding: float32 [ids, K]."""
        session = self.session()
        x = next(each for each in session.get_inputs() if each.name == "x.weight")
        inputs = {"ids.weight": ids, "x.weight": np.zeros((1, x.shape[1]), np.float32)}
        [rows] = session.run(["e.weight"], inputs)
        return np.asarray(rows)


def _write(
    folder: Path,
    tensors: Mapping[str, torch.Tensor],
    schemes: Mapping[str, Scheme],
    quantized: Mapping[str, QuantizedWeight],
    *,
    fp16: bool = False,
    embedded: frozenset[str] = frozenset(),
) -> Written:
    shapes = {name: (tensor.shape[0], tensor.shape[1]) for name, tensor in tensors.items()}
    model = _model(shapes, embedded)
    lower(model, tensors, schemes, quantized, fp16=fp16)
    save(model, folder, "weights")
    return Written(folder)


@all_formats
def test_product_equals_dequantized_values(
    tmp_path: Path, bits: int, block_size: int, symmetric: bool
) -> None:
    weight = _weight(ROWS, PADDED_COLUMNS)
    scheme = _coded(bits, block_size, symmetric)
    quantized = quantize_as(scheme, weight)

    written = _write(tmp_path, {"weight": weight}, {"weight": scheme}, {"weight": quantized})

    values = dequantize(quantized)
    np.testing.assert_allclose(written.product(), values, rtol=0, atol=1e-6)
    steps = np.repeat(quantized.scales, block_size, axis=1)[:, :PADDED_COLUMNS]
    assert np.mean(np.abs(values - weight.numpy()) <= 0.51 * steps) > 0.9


@all_formats
def test_tied_pair_reads_the_same_values(
    tmp_path: Path, bits: int, block_size: int, symmetric: bool
) -> None:
    weight = _weight(ROWS, GATHERABLE_COLUMNS)
    scheme = _coded(bits, block_size, symmetric)
    quantized = quantize_as(scheme, weight)
    ids = np.array([ROWS - 1, 0, 7, 7])

    written = _write(
        tmp_path,
        {"weight": weight},
        {"weight": scheme},
        {"weight": quantized},
        embedded=frozenset({"weight"}),
    )

    values = dequantize(quantized)
    np.testing.assert_array_equal(written.rows(ids), values[ids])
    np.testing.assert_allclose(written.product(), values, rtol=0, atol=1e-6)
    assert written.operators()["Mul"] == 1


@pytest.mark.parametrize("symmetric", [True, False])
def test_scales_take_one_byte_on_disk(tmp_path: Path, symmetric: bool) -> None:
    weight = _weight(ROWS, 512)
    scheme = _coded(symmetric=symmetric)

    written = _write(
        tmp_path, {"weight": weight}, {"weight": scheme}, {"weight": quantize_as(scheme, weight)}
    )

    blocks = weight.numel() // 32
    zero_points = 0 if symmetric else blocks // 2
    expected = weight.numel() // 2 + blocks + 4 * ROWS + zero_points
    assert (tmp_path / WEIGHTS_FILE).stat().st_size == expected
    locations = {t.name: t.data_location for t in written.proto().initializer}
    assert set(locations.values()) == {TensorProto.EXTERNAL}
    assert {"weight_scale_codes", "weight_row_scales"} < set(locations)


def test_onnxruntime_folds_coded_scales_when_it_loads(tmp_path: Path) -> None:
    weight = _weight(ROWS, GATHERABLE_COLUMNS)
    scheme = _coded()
    quantized = quantize_as(scheme, weight)
    written = _write(
        tmp_path,
        {"weight": weight},
        {"weight": scheme},
        {"weight": quantized},
        embedded=frozenset({"weight"}),
    )
    assert written.operators() == Counter(
        ["Cast", "Mul", "Reshape", "MatMulNBits", "GatherBlockQuantized"]
    )

    optimized = tmp_path / "optimized.onnx"
    written.session(optimized_model_filepath=str(optimized))

    graph = onnx.load(optimized).graph
    assert Counter(node.op_type for node in graph.node) == Counter(
        ["MatMulNBits", "GatherBlockQuantized"]
    )
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        np.testing.assert_array_equal(constants[node.input[2]], quantized.scales)


MIXED = {
    "a": _coded(4, 16, False, "a"),
    "b": _coded(8, 128, True, "b"),
    "c": Scheme(WeightSource("c"), 4, 64, True, Algorithm.rtn, 0, ScaleType.float32),
    "d": Scheme(WeightSource("d"), 8, 32, False, Algorithm.k_quant, 0, ScaleType.float32),
}


def test_weights_of_one_graph_have_their_own_schemes(tmp_path: Path) -> None:
    """Two are quantized before, two when the graph is saved, and one not at all."""
    tensors = {name: _weight(ROWS + i, 384) for i, name in enumerate("abcde")}
    before = {name: quantize_as(MIXED[name], tensors[name]) for name in "ab"}

    written = _write(tmp_path, tensors, MIXED, before)

    quantized = before | {name: MIXED[name].quantize(tensors[name]) for name in "cd"}
    for name in "abcd":
        values = dequantize(quantized[name])
        np.testing.assert_allclose(written.product(name), values, rtol=0, atol=1e-6)
    np.testing.assert_allclose(written.product("e"), tensors["e"], rtol=0, atol=1e-6)
    found = {
        node.output[0]: {a.name: a.i for a in node.attribute}
        for node in written.proto().node
        if node.op_type == "MatMulNBits"
    }
    assert {name: (a["bits"], a["block_size"]) for name, a in found.items()} == {
        f"y.{name}": (scheme.bits, scheme.block_size) for name, scheme in MIXED.items()
    }


@pytest.mark.parametrize("fp16", [False, True])
@pytest.mark.parametrize("scale_type", ScaleType)
def test_every_type_of_scales_fits_both_precisions(
    tmp_path: Path, scale_type: ScaleType, fp16: bool
) -> None:
    weight = _weight(ROWS, PADDED_COLUMNS)
    quantized = quantize_as(_coded(), weight)
    if scale_type is not ScaleType.int8:
        quantized = replace(quantized, coded_scales=None)
    scheme = replace(_coded(), scale_type=scale_type)

    written = _write(
        tmp_path, {"weight": weight}, {"weight": scheme}, {"weight": quantized}, fp16=fp16
    )

    # A value is at most 8 scales.
    is_exact = not fp16 and scale_type is not ScaleType.float16
    tolerance = 1e-6 if is_exact else 8 * quantized.scales.max() * 2**-10
    np.testing.assert_allclose(written.product(), dequantize(quantized), rtol=0, atol=tolerance)


class _CountedReads(dict[str, QuantizedWeight]):
    """Quantized weights that are read from disk, as far as `lower` can tell."""

    reads = 0

    def get(self, name: str, default: Any = None) -> Any:
        self.reads += 1
        return super().get(name, default)


def test_quantized_weight_is_read_once_and_its_tensor_never(tmp_path: Path) -> None:
    scheme = _coded(symmetric=False)
    weight = _weight(ROWS, GATHERABLE_COLUMNS)
    quantized = _CountedReads(weight=quantize_as(scheme, weight))
    model = _model({"weight": (ROWS, GATHERABLE_COLUMNS)}, frozenset({"weight"}))

    lower(model, {}, {"weight": scheme}, quantized, fp16=False)
    assert quantized.reads == 0
    save(model, tmp_path, "weights")

    assert quantized.reads == 1


def test_gptq_without_calibration_is_rejected(tmp_path: Path) -> None:
    """Another rounding in its place would go unnoticed."""
    with pytest.raises(ValueError, match="gptq is computed by calibration"):
        _write(tmp_path, {"weight": _weight(ROWS, 64)}, {"weight": _coded()}, {})


@pytest.mark.parametrize(
    ("bits", "block_size", "symmetric"), [(8, 32, True), (4, 64, True), (4, 32, False)]
)
def test_weight_of_another_scheme_is_rejected(
    tmp_path: Path, bits: int, block_size: int, symmetric: bool
) -> None:
    weight = _weight(ROWS, 64)
    quantized = quantize_as(_coded(bits, block_size, symmetric), weight)

    with pytest.raises(ValueError, match=r"are \(.*\), but of its scheme \(4, 32, True\)"):
        _write(tmp_path, {"weight": weight}, {"weight": _coded()}, {"weight": quantized})


def test_weight_without_coded_scales_is_rejected(tmp_path: Path) -> None:
    weight = _weight(ROWS, 64)
    quantized = replace(quantize_as(_coded(), weight), coded_scales=None)

    with pytest.raises(ValueError, match="the quantized weight has none"):
        _write(tmp_path, {"weight": weight}, {"weight": _coded()}, {"weight": quantized})


def test_scales_that_differ_from_their_codes_are_rejected() -> None:
    quantized = coded_rounding.quantize(
        _weight(ROWS, 64).numpy(), bits=4, block_size=32, symmetric=True
    )

    with pytest.raises(ValueError, match="differ from its coded scales"):
        replace(quantized, scales=np.nextafter(quantized.scales, np.float32(1)))
