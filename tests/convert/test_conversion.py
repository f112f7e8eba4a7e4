"""Conversion of small models, against transformers' own forward pass."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Starcoder2Config,
    Starcoder2ForCausalLM,
)

from steps.common.config import PROJECT, ExporterName, Target, load
from steps.common.errors import UserError
from steps.convert import parity
from steps.convert.conversion import Conversion, convert_model
from steps.convert.export import GRAPH

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
    assert len(nodes) == 4 * 4 + 1  # four projections in each of four layers, and the LM head
    assert (attributes["bits"], attributes["block_size"]) == (bits, 32)
    assert attributes["accuracy_level"] == accuracy
    assert conversion.onnx_size_mb < BUNDLED.joinpath("model.safetensors").stat().st_size / 2e6


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
    texts = ["What is the capital of France?", "Hello"]
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

    found = parity.compare(parity.run_original(weights, texts), folder, "perturbed")

    original = AutoModelForCausalLM.from_pretrained(weights)
    tokenizer = AutoTokenizer.from_pretrained(weights)
    divergences, differences = [], []
    for text in texts:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt"
        )
        with torch.no_grad():
            a, b = original(ids).logits[0].double(), model(ids).logits[0].double()
        differences.append(float((a - b).abs().max()))
        p, q = a.log_softmax(-1), b.log_softmax(-1)
        divergences += torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1)
    assert found.max_abs_diff == pytest.approx(max(differences), abs=1e-4)
    assert found.mean_kl == pytest.approx(float(np.mean(divergences)), rel=1e-3)


def test_another_computation_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is real: with none allowed, rounding alone fails the step."""
    monkeypatch.setattr("steps.convert.conversion.FP32_TOLERANCE", 0.0)

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
        ("config.json", {"hidden_size": 64}, "transformers cannot load the model"),
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
