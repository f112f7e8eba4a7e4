"""Conversion of the bundled model, against transformers and ONNX Runtime's own quantizer."""

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from transformers import AutoTokenizer

from slmflow.config.schema.target import ExporterName
from slmflow.conversion.onnx_files import GRAPH_FILE, WEIGHTS_FILE
from slmflow.conversion.proof import exact_proof
from slmflow.conversion.proof.fidelity import Loss
from slmflow.conversion.record import ConversionRecord
from slmflow.errors import UserError
from slmflow.runtime.prompts.message_encoder import TemplatePromptEncoder
from tests.conversion.architectures import BUNDLED, edited_bundle
from tests.conversion.conversions import convert, target


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that converts the bundled model once for all tests of this file."""

    @functools.cache
    def convert_once(name: str, *overrides: str) -> Path:
        folder = tmp_path_factory.mktemp("converted") / name
        convert(BUNDLED, folder, name, *overrides)
        return folder

    return convert_once


def _graph(folder: Path) -> onnx.GraphProto:
    return onnx.load(folder / GRAPH_FILE, load_external_data=False).graph


def test_fp32_matches_the_reference(converted: Callable[..., Path]) -> None:
    record = ConversionRecord.read(converted("cpu_fp32"))

    assert record.parity.max_abs_diff < 1e-4
    assert record.parity.top1_agreement == 1
    assert record.parity.tokenizer_mismatches == 0
    assert 0 <= record.parity.mean_kl < 1e-9
    assert record.metrics()["parity.max_abs_diff"] == record.parity.max_abs_diff
    assert 0 <= record.fidelity.mean_kl_low <= record.fidelity.mean_kl_high < 1e-9
    assert record.fidelity.top1_agreement == 1
    assert record.fidelity.perplexity_ratio == pytest.approx(1, abs=1e-5)
    assert record.fidelity.loss is Loss.small
    assert record.rtn_fidelity is None
    assert "fidelity.rtn_mean_kl" not in record.metrics()


def test_calibrated_rounding_is_compared_with_plain_rounding(tmp_path: Path) -> None:
    exact = "target.quantization.accuracy_level=0"
    # Too few bits for a module at 8 bits, so both models have the same schemes.
    gptq = ("target.quantization.algorithm=gptq", "target.quantization.bits_per_weight=4.1")

    plain = convert(BUNDLED, tmp_path / "plain", "cpu_int4_rtn", exact)
    record = convert(BUNDLED, tmp_path / "calibrated", "cpu_int4_rtn", exact, *gptq)

    assert record.rtn_fidelity is not None
    assert record.rtn_fidelity.mean_kl == pytest.approx(plain.fidelity.mean_kl, rel=1e-4)
    assert record.metrics()["fidelity.rtn_mean_kl"] == record.rtn_fidelity.mean_kl
    assert record.fidelity.mean_kl < record.rtn_fidelity.mean_kl
    assert record.fidelity.median_kl < 0.8 * record.rtn_fidelity.median_kl


@pytest.mark.parametrize(("name", "bits"), [("cpu_int8", 8), ("cpu_int4_rtn", 4)])
def test_weights_are_quantized_for_the_target(
    converted: Callable[..., Path], name: str, bits: int
) -> None:
    folder = converted(name)
    record = ConversionRecord.read(folder)

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
    assert record.exact_max_abs_diff is not None and record.exact_max_abs_diff < 1e-4
    config = json.loads((folder / "genai_config.json").read_text())
    providers = config["model"]["decoder"]["session_options"]["provider_options"]
    assert [*providers[0]] == ["cuda"]


def test_builder_writes_its_own_graph(tmp_path: Path) -> None:
    folder = tmp_path / "builder"
    record = convert(BUNDLED, folder, "cpu_fp32", exporter=ExporterName.builder)

    assert "GroupQueryAttention" in {node.op_type for node in _graph(folder).node}
    assert record.parity.max_abs_diff < 1e-4
    assert record.fidelity.mean_kl < 1e-9


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("cpu_int4_rtn", []),
        pytest.param("cpu_int8", [], marks=pytest.mark.long),
        pytest.param(
            "cpu_int4_rtn", ["target.quantization.symmetric=false"], marks=pytest.mark.long
        ),
        pytest.param("cpu_int4_rtn", ["target.quantization.block_size=64"], marks=pytest.mark.long),
    ],
)
def test_streamed_bytes_equal_whole_model_quantization(
    tmp_path: Path, converted: Callable[..., Path], name: str, overrides: list[str]
) -> None:
    """ONNX Runtime's quantizer on the loaded fp32 graph writes the same bytes."""
    quantization = target(name, *overrides).quantization
    assert quantization is not None
    streamed, repeated = converted(name, *overrides), tmp_path / "repeated"
    convert(BUNDLED, repeated, name, *overrides)
    quantizer = MatMulNBitsQuantizer(
        onnx.load(converted("cpu_fp32") / GRAPH_FILE),
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


def _edit_json(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def _lowercase(tokenizer: dict[str, Any]) -> None:
    both = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, tokenizer["normalizer"]]}
    tokenizer["normalizer"] = both


def _use_metaspace(tokenizer: dict[str, Any]) -> None:
    tokenizer["normalizer"] = None
    tokenizer["pre_tokenizer"] = {
        **{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first"},
        "split": False,
    }


@pytest.mark.parametrize(
    "change", [_lowercase, pytest.param(_use_metaspace, marks=pytest.mark.long)]
)
def test_tokenizer_unknown_to_the_runtime_is_noted(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    weights, folder = edited_bundle(tmp_path / "weights"), tmp_path / "onnx"
    file = weights / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    change(tokenizer)
    file.write_text(json.dumps(tokenizer))
    _edit_json(weights / "tokenizer_config.json", legacy=False)

    record = convert(weights, folder, "cpu_fp32")

    [note] = record.notes
    assert re.search(r"own tokenizer gives other token ids for \d+ of \d+ texts", note)
    assert note.split(",")[0] in " ".join(capsys.readouterr().err.split())
    assert record.parity.tokenizer_mismatches == 0
    assert (folder / "tokenizer.json").read_bytes() == file.read_bytes()
    reference = AutoTokenizer.from_pretrained(weights)
    _assert_encoded_alike(folder, reference)


def test_template_unknown_to_the_runtime_is_noted(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content.replace('/no_think', '').rstrip() }}"
        "<|end|>\n{% endfor %}<|assistant|>\n"
    )
    weights, folder = edited_bundle(tmp_path / "weights"), tmp_path / "onnx"
    _edit_json(weights / "tokenizer_config.json", chat_template=template)

    record = convert(weights, folder, "cpu_fp32")

    assert "another prompt for 5 of 5 conversations" in record.notes[0]
    _assert_encoded_alike(folder, AutoTokenizer.from_pretrained(weights))


def _assert_encoded_alike(folder: Path, reference: Any) -> None:
    turns = [{"role": "user", "content": "  What is\u00a0it? /no_think  "}]
    expected = reference.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert TemplatePromptEncoder(folder).encode_chat(turns) == expected


@pytest.mark.parametrize("hidden_size", [96, 64])
def test_weights_of_another_shape_are_rejected(tmp_path: Path, hidden_size: int) -> None:
    weights = edited_bundle(tmp_path / "weights", hidden_size=hidden_size)

    with pytest.raises(UserError, match=r"have other shapes than config\.json requires"):
        convert(weights, tmp_path / "onnx", "cpu_fp32")
