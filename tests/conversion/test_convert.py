"""Conversion of the bundled model, against transformers and ONNX Runtime's own quantizer."""

import json
from pathlib import Path

import onnx
import pytest
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from slmflow.config.schema.target import ExporterName
from slmflow.conversion.onnx_files import GRAPH_FILE, WEIGHTS_FILE
from slmflow.conversion.proof import exact_proof
from slmflow.errors import UserError
from tests.conversion.architectures import BUNDLED, edited_bundle
from tests.conversion.conversions import convert, target


def _graph(folder: Path) -> onnx.GraphProto:
    return onnx.load(folder / GRAPH_FILE, load_external_data=False).graph


def test_fp32_matches_the_reference(tmp_path: Path) -> None:
    record = convert(BUNDLED, tmp_path / "fp32", "cpu_fp32")

    assert record.parity.max_abs_diff < 1e-4
    assert record.parity.top1_agreement == 1
    assert record.parity.tokenizer_mismatches == 0
    assert 0 <= record.parity.mean_kl < 1e-9
    assert record.metrics()["parity.max_abs_diff"] == record.parity.max_abs_diff


@pytest.mark.parametrize(("name", "bits"), [("cpu_int8", 8), ("cpu_int4", 4)])
def test_weights_are_quantized_for_the_target(tmp_path: Path, name: str, bits: int) -> None:
    folder = tmp_path / name
    record = convert(BUNDLED, folder, name)

    nodes = [node for node in _graph(folder).node if node.op_type == "MatMulNBits"]
    attributes = {a.name: a.i for a in nodes[0].attribute}
    assert len(nodes) == 4 * 5 + 1  # five per layer, with gate and up split, and the LM head
    assert (attributes["bits"], attributes["block_size"]) == (bits, 32)
    assert attributes["accuracy_level"] == 4
    assert record.onnx_size_mb < BUNDLED.joinpath("model.safetensors").stat().st_size / 2e6


def test_fp16_computes_in_half_precision(tmp_path: Path) -> None:
    folder = tmp_path / "fp16"
    record = convert(BUNDLED, folder, "cuda_fp16")

    assert onnx.TensorProto.FLOAT not in {i.data_type for i in _graph(folder).initializer}
    assert record.parity.max_abs_diff < 0.05
    config = json.loads((folder / "genai_config.json").read_text())
    providers = config["model"]["decoder"]["session_options"]["provider_options"]
    assert [*providers[0]] == ["cuda"]


def test_builder_writes_its_own_graph(tmp_path: Path) -> None:
    folder = tmp_path / "builder"
    record = convert(BUNDLED, folder, "cpu_fp32", exporter=ExporterName.builder)

    assert "GroupQueryAttention" in {node.op_type for node in _graph(folder).node}
    assert record.parity.max_abs_diff < 1e-4


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("cpu_int4", []),
        pytest.param("cpu_int8", [], marks=pytest.mark.long),
        pytest.param("cpu_int4", ["target.quantization.symmetric=false"], marks=pytest.mark.long),
        pytest.param("cpu_int4", ["target.quantization.block_size=64"], marks=pytest.mark.long),
    ],
)
def test_streamed_bytes_equal_whole_model_quantization(
    tmp_path: Path, name: str, overrides: list[str]
) -> None:
    """ONNX Runtime's quantizer on the loaded fp32 graph writes the same bytes."""
    quantization = target(name, *overrides).quantization
    assert quantization is not None
    fp32, streamed, repeated = (tmp_path / name for name in ("fp32", "streamed", "repeated"))
    convert(BUNDLED, fp32, "cpu_fp32")
    for folder in (streamed, repeated):
        convert(BUNDLED, folder, name, *overrides)
    quantizer = MatMulNBitsQuantizer(
        onnx.load(fp32 / GRAPH_FILE),
        bits=quantization.bits,
        block_size=quantization.block_size,
        is_symmetric=quantization.symmetric,
        accuracy_level=4,
    )
    quantizer.process()

    streamed_model = onnx.load(streamed / GRAPH_FILE)
    assert _matmul_constants(streamed_model) == _matmul_constants(quantizer.model.model)
    assert (streamed / WEIGHTS_FILE).read_bytes() == (repeated / WEIGHTS_FILE).read_bytes()
    assert (streamed / GRAPH_FILE).read_bytes() == (repeated / GRAPH_FILE).read_bytes()


def _matmul_constants(model: onnx.ModelProto) -> list[list[bytes]]:
    """Return the constant inputs of the quantized MatMuls, in graph order."""
    tensors = {t.name: onnx.numpy_helper.to_array(t).tobytes() for t in model.graph.initializer}
    constants = [
        [tensors[name] for name in node.input[1:] if name]
        for node in model.graph.node
        if node.op_type == "MatMulNBits"
    ]
    assert len(constants) == 21
    return constants


def test_difference_above_the_tolerance_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a tolerance of zero, the order of sums alone fails the conversion."""
    monkeypatch.setattr(exact_proof, "FP32_TOLERANCE", 0.0)

    with pytest.raises(UserError, match="fp32 logits differ by"):
        convert(BUNDLED, tmp_path / "fp32", "cpu_fp32")


def test_different_tokenization_is_rejected(tmp_path: Path) -> None:
    """transformers lowercases with this normalizer, which the runtime does not support."""
    normalizer = json.loads((BUNDLED / "tokenizer.json").read_text())["normalizer"]
    both = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, normalizer]}
    weights = edited_bundle(tmp_path / "weights", "tokenizer.json", normalizer=both)

    with pytest.raises(UserError, match=r"tokenizes or renders \d+ of 16 probe texts differently"):
        convert(weights, tmp_path / "onnx", "cpu_fp32")


@pytest.mark.parametrize("hidden_size", [96, 64])
def test_weights_of_another_shape_are_rejected(tmp_path: Path, hidden_size: int) -> None:
    weights = edited_bundle(tmp_path / "weights", hidden_size=hidden_size)

    with pytest.raises(UserError, match=r"have other shapes than config\.json requires"):
        convert(weights, tmp_path / "onnx", "cpu_fp32")
