"""Conversion of small models, against transformers' own forward pass."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Starcoder2Config,
    Starcoder2ForCausalLM,
)

from slmflow.checkpoints.tensors import Checkpoint
from slmflow.config.compose import load
from slmflow.config.schema.target import ExporterName, Target
from slmflow.conversion import parity, proof_graphs, reference_model
from slmflow.conversion.convert import Conversion, convert_model
from slmflow.conversion.external_data import DATA, GRAPH
from slmflow.conversion.probes import prepare
from slmflow.errors import UserError
from slmflow.paths import PROJECT

BUNDLED = PROJECT / "bundled" / "tiny_phi3"


def _target(name: str) -> Target:
    return load([f"target={name}"]).target


def _converted(folder: Path, target: str, exporter: str = "optimum") -> Conversion:
    folder.mkdir()
    convert_model(BUNDLED, folder, _target(target), ExporterName[exporter])
    return Conversion.read(folder)


def _operators(folder: Path) -> set[str]:
    model = onnx.load(folder / GRAPH, load_external_data=False)
    return {node.op_type for node in model.graph.node}


def test_fp32_is_the_original(tmp_path: Path) -> None:
    conversion = _converted(tmp_path / "fp32", "cpu_fp32")

    assert conversion.parity.max_abs_diff < 1e-4
    assert conversion.parity.top1_agreement == 1
    assert conversion.parity.tokenizer_mismatches == 0
    assert 0 <= conversion.parity.mean_kl < 1e-9
    assert conversion.metrics()["parity.max_abs_diff"] == conversion.parity.max_abs_diff


@pytest.mark.parametrize(("target", "bits", "accuracy"), [("cpu_int8", 8, 4), ("cpu_int4", 4, 4)])
def test_weights_are_quantized_as_the_target_says(
    tmp_path: Path, target: str, bits: int, accuracy: int
) -> None:
    folder = tmp_path / target
    conversion = _converted(folder, target)

    nodes = [
        node
        for node in onnx.load(folder / GRAPH, load_external_data=False).graph.node
        if node.op_type == "MatMulNBits"
    ]
    attributes = {a.name: a.i for a in nodes[0].attribute}
    assert len(nodes) == 4 * 5 + 1  # gate and up apart, three more in each layer; the LM head
    assert (attributes["bits"], attributes["block_size"]) == (bits, 32)
    assert attributes["accuracy_level"] == accuracy
    assert conversion.onnx_size_mb < BUNDLED.joinpath("model.safetensors").stat().st_size / 2e6


@pytest.mark.parametrize("module", ["model.embed_tokens", "no.such"])
def test_a_module_that_is_not_quantized_cannot_be_kept_at_8_bits(
    tmp_path: Path, module: str
) -> None:
    target = load(["target=cpu_int4", f"target.quantization.eight_bit=[{module}]"]).target

    with pytest.raises(UserError, match=r"no such module is quantized\. Name some of") as caught:
        convert_model(BUNDLED, tmp_path, target, ExporterName.optimum)

    named = str(caught.value).partition("Name some of ")[2].split(", ")
    assert "lm_head" in named
    assert "model.embed_tokens" not in named
    assert len(named) == len(set(named))


def test_fp16_computes_in_half_precision(tmp_path: Path) -> None:
    folder = tmp_path / "fp16"
    conversion = _converted(folder, "cuda_fp16")

    model = onnx.load(folder / GRAPH, load_external_data=False)
    assert {i.data_type for i in model.graph.initializer} & {onnx.TensorProto.FLOAT} == set()
    assert conversion.parity.max_abs_diff < 0.05
    config = json.loads((folder / "genai_config.json").read_text())
    providers = config["model"]["decoder"]["session_options"]["provider_options"]
    assert [*providers[0]] == ["cuda"]


def test_the_builder_writes_its_own_graph(tmp_path: Path) -> None:
    folder = tmp_path / "builder"
    conversion = _converted(folder, "cpu_fp32", "builder")

    assert "GroupQueryAttention" in _operators(folder)
    assert conversion.parity.max_abs_diff < 1e-4


def test_parity_figures_are_those_of_torch(tmp_path: Path) -> None:
    """An independent computation: KL by torch over the logits of a perturbed model."""
    weights, perturbed = tmp_path / "weights", tmp_path / "perturbed"
    shutil.copytree(BUNDLED, perturbed)
    shutil.copytree(BUNDLED, weights)
    model = AutoModelForCausalLM.from_pretrained(perturbed)
    with torch.no_grad():
        model.lm_head.weight += 0.01 * torch.randn(
            model.lm_head.weight.shape, generator=torch.Generator().manual_seed(0)
        )
    model.save_pretrained(perturbed)
    folder = tmp_path / "onnx"
    folder.mkdir()
    convert_model(perturbed, folder, _target("cpu_fp32"), ExporterName.optimum)
    tokenizer = AutoTokenizer.from_pretrained(weights)
    probes = prepare(tokenizer, ["What is the capital of France?", "Hello"])
    unperturbed = reference_model.load(weights).model
    expected = reference_model.logits(
        unperturbed, Checkpoint.of(weights, unperturbed), [probe.prompt_ids for probe in probes]
    )

    with proof_graphs.all_positions(folder) as graph:
        found = parity.compare(expected, folder, graph, probes, "perturbed")

    original = AutoModelForCausalLM.from_pretrained(weights)
    divergences, differences = [], []
    for probe in probes:
        ids = torch.tensor([probe.prompt_ids])
        with torch.no_grad():
            a, b = original(ids).logits[0].double(), model(ids).logits[0].double()
        differences.append(float((a - b).abs().max()))
        p, q = a.log_softmax(-1), b.log_softmax(-1)
        divergences += torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1)
    assert found.max_abs_diff == pytest.approx(max(differences), abs=1e-4)
    assert found.mean_kl == pytest.approx(float(np.mean(divergences)), rel=1e-3)
    assert not (folder / graph).exists()


@pytest.mark.parametrize(
    "options",
    [
        ["target=cpu_int4"],
        *(
            pytest.param(options, marks=pytest.mark.long)
            for options in (
                ["target=cpu_int8"],
                ["target=cpu_int4", "target.quantization.symmetric=false"],
                ["target=cpu_int4", "target.quantization.block_size=64"],
            )
        ),
    ],
)
def test_streamed_bytes_are_those_of_the_whole_model_in_memory(
    tmp_path: Path, options: list[str]
) -> None:
    """ONNX Runtime's quantizer over the fp32 graph, all of it loaded, writes the same bytes."""
    target = load(options).target
    assert target.quantization is not None
    fp32, streamed, again = (tmp_path / name for name in ("fp32", "streamed", "again"))
    for folder, chosen in ((fp32, _target("cpu_fp32")), (streamed, target), (again, target)):
        folder.mkdir()
        convert_model(BUNDLED, folder, chosen, ExporterName.optimum)
    quantizer = MatMulNBitsQuantizer(
        onnx.load(fp32 / GRAPH),
        bits=target.quantization.bits,
        block_size=target.quantization.block_size,
        is_symmetric=target.quantization.symmetric,
        accuracy_level=4,
    )
    quantizer.process()

    assert _inputs_of_matmuls(streamed) == _inputs_of_matmuls(quantizer.model.model)
    assert (streamed / DATA).read_bytes() == (again / DATA).read_bytes()
    assert (streamed / GRAPH).read_bytes() == (again / GRAPH).read_bytes()


def _inputs_of_matmuls(model: Path | onnx.ModelProto) -> list[list[bytes]]:
    """Return the constant inputs of the quantized MatMuls, in the graph's order."""
    if isinstance(model, Path):
        model = onnx.load(model / GRAPH)
    tensors = {t.name: onnx.numpy_helper.to_array(t).tobytes() for t in model.graph.initializer}
    found = [
        [tensors[name] for name in node.input[1:] if name]
        for node in model.graph.node
        if node.op_type == "MatMulNBits"
    ]
    assert len(found) == 21
    return found


def test_another_computation_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is real: with none allowed, rounding alone fails the step."""
    monkeypatch.setattr("slmflow.conversion.parity.FP32_TOLERANCE", 0.0)

    with pytest.raises(UserError, match="fp32 logits differ by"):
        _converted(tmp_path / "fp32", "cpu_fp32")


def test_another_tokenization_is_refused(tmp_path: Path) -> None:
    """transformers' tokenizer lowercases by this normalizer; the runtime's does not know it."""
    weights = tmp_path / "weights"
    shutil.copytree(BUNDLED, weights)
    file = weights / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    known = tokenizer["normalizer"]
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, known]}
    file.write_text(json.dumps(tokenizer))

    with pytest.raises(UserError, match=r"of 16 probe texts are tokenized or rendered differently"):
        convert_model(weights, tmp_path, _target("cpu_fp32"), ExporterName.optimum)


@pytest.mark.parametrize("exporter", list(ExporterName))
def test_an_unknown_architecture_is_refused_by_name(tmp_path: Path, exporter: ExporterName) -> None:
    """transformers knows StarCoder2; neither exporter does."""
    weights = tmp_path / "weights"
    shutil.copytree(BUNDLED, weights, ignore=shutil.ignore_patterns("*.safetensors"))
    config = Starcoder2Config(
        vocab_size=1024,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    Starcoder2ForCausalLM(config).save_pretrained(weights)

    with pytest.raises(UserError, match="Starcoder2ForCausalLM"):
        convert_model(weights, tmp_path, _target("cpu_fp32"), exporter)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("tokenizer_config.json", {"chat_template": None}, "has no chat template"),
        ("config.json", {"hidden_size": 96}, "have other shapes than config.json asks for"),
        ("config.json", {"hidden_size": 64}, "have other shapes than config.json asks for"),
        ("config.json", {"model_type": "none-such"}, "transformers cannot load the model"),
    ],
)
def test_a_folder_that_is_no_chat_model_is_refused(
    tmp_path: Path, file: str, content: dict[str, object], said: str
) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(BUNDLED, weights)
    fields = json.loads((weights / file).read_text()) | content
    (weights / file).write_text(json.dumps({k: v for k, v in fields.items() if v is not None}))

    with pytest.raises(UserError, match=said):
        convert_model(weights, tmp_path, _target("cpu_fp32"), ExporterName.optimum)
