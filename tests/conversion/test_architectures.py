"""Whole conversions of every architecture: the GenAI runtime against transformers."""

import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from _pytest.mark import ParameterSet
from transformers import (
    BloomConfig,
    DynamicCache,
    FalconConfig,
    GPT2Config,
    Phi3Config,
    Starcoder2Config,
)

from slmflow.config.schema.target import ExporterName
from slmflow.conversion.onnx_files import GRAPH_FILE, WEIGHTS_FILE
from slmflow.conversion.proof import graph_variants
from slmflow.conversion.proof.graph_runtime import Runtime
from slmflow.conversion.record import ConversionRecord
from slmflow.errors import UserError
from tests.conversion import architectures
from tests.conversion.architectures import FUSED, LAYER_NORMS, SIZES, UNFUSED, edited_bundle
from tests.conversion.conversions import convert

# Shorter and longer than the sliding windows; generation crosses them.
LENGTHS = (5, 40)
TOKENS = 64

# One of each kind: packed projections with a window, LongRoPE, query and key norms with rotary
# embeddings by layer, attention as exported. The others run in `make test-long`.
_NOT_LONG = ("phi3", "phi3_longrope", "gemma3", "olmo_clipped")

Converter = Callable[..., "Converted"]


def _parameters(names: Iterable[str]) -> list[ParameterSet]:
    return [
        pytest.param(name, marks=() if name in _NOT_LONG else pytest.mark.long) for name in names
    ]


@dataclass(frozen=True)
class Converted:
    """A converted model and its checkpoint."""

    weights: Path
    folder: Path
    record: ConversionRecord

    @functools.cached_property
    def reference(self) -> Any:
        return architectures.load(self.weights)

    @functools.cached_property
    def runtime(self) -> Runtime:
        return Runtime(self.folder, GRAPH_FILE)

    def greedy(self, ids: list[int], tokens: int = TOKENS) -> list[int]:
        return self.runtime.greedy([ids], tokens)[0]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converter:
    """Return a function that converts an architecture once for all tests of this file."""

    @functools.cache
    def convert_once(name: str, target: str = "cpu_fp32") -> Converted:
        config = (FUSED | UNFUSED)[name]
        return _convert(config, tmp_path_factory.mktemp(name), target)

    return convert_once


def _convert(config: Any, folder: Path, target: str = "cpu_fp32") -> Converted:
    weights = architectures.save_random_model(config, folder / "weights")
    return Converted(weights, folder / target, convert(weights, folder / target, target))


def _phi3(original_length: int, **fields: Any) -> Phi3Config:
    sizes = SIZES | {"num_key_value_heads": 4} | fields
    return Phi3Config(**sizes, original_max_position_embeddings=original_length)


def _assert_close(logits: Any, expected: Any) -> None:
    np.testing.assert_allclose(logits, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", _parameters(FUSED))
def test_all_attention_and_norms_are_fused(name: str, converted: Converter) -> None:
    reports = {report.name: report for report in converted(name).record.passes}

    assert reports["attention"].matched == FUSED[name].num_hidden_layers
    assert reports["norms"].matched == reports["norms"].candidates
    assert (reports["norms"].candidates == 0) == (name in LAYER_NORMS)
    assert reports["last_position"].matched == 1
    assert not [report.reason for report in reports.values() if report.reason]


@pytest.mark.parametrize("name", _parameters([*FUSED, *UNFUSED]))
def test_logits_equal_transformers(name: str, converted: Converter) -> None:
    model = converted(name)
    rows = [architectures.prompt(length) for length in (*LENGTHS, 23, 100)]
    expected = [architectures.logits(model.reference, row) for row in rows]

    with graph_variants.all_positions(model.folder) as graph:
        runtime = Runtime(model.folder, graph)
        logits = [runtime.logits(row) for row in rows]
    batched = model.runtime.decode_logits(rows, 1)[0]

    for alone, last, reference in zip(logits, batched, expected, strict=True):
        _assert_close(alone, reference)
        _assert_close(last, reference[-1])
        assert np.ptp(reference) > 1  # or the tolerance would hide another computation


@pytest.mark.parametrize("name", _parameters([*FUSED, *UNFUSED]))
def test_greedy_generation_equals_transformers(name: str, converted: Converter) -> None:
    model = converted(name)
    rows = [architectures.prompt(length) for length in LENGTHS]

    expected = [architectures.greedy(model.reference, row, TOKENS) for row in rows]

    assert [len(tokens) for tokens in expected] == [TOKENS] * len(rows)
    assert [model.greedy(row) for row in rows] == expected
    assert model.runtime.greedy(rows, TOKENS) == expected


def test_unfused_attention_has_no_shared_cache(converted: Converter) -> None:
    assert converted("olmo_clipped").record.passes[0].reason == (
        "no support for OlmoAttention with clip_qkv"
    )
    config = json.loads((converted("olmo_clipped").folder / "genai_config.json").read_text())
    assert config["search"]["past_present_share_buffer"] is False


def test_unfused_sliding_window_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _convert(_phi3(512, hidden_size=96, sliding_window=400), tmp_path)

    shown = capsys.readouterr().err
    assert "graph pass attention: head size 24 is not a multiple of 16" in shown
    assert "counts padding in the sliding window of 400 tokens" in shown


@pytest.mark.parametrize("name", _parameters(["phi3_longrope", "phi4_mini"]))
def test_prompt_beyond_the_original_length(name: str, converted: Converter) -> None:
    model = converted(name)
    row = architectures.prompt(140)

    with graph_variants.all_positions(model.folder) as graph:
        logits = Runtime(model.folder, graph).logits(row)

    _assert_close(logits, architectures.logits(model.reference, row))
    assert model.greedy(row) == architectures.greedy(model.reference, row, TOKENS)


def _longrope(original_length: int) -> Phi3Config:
    longest = original_length + 128
    scaling = architectures.longrope(16)
    return _phi3(original_length, max_position_embeddings=longest, rope_scaling=scaling)


def _greedy_across(model: Any, ids: list[int], tokens: int, original_length: int) -> list[int]:
    """Return transformers' greedy tokens, its cache recomputed beyond the original length.

    So does its own `generate` for Phi-3, but its eager attention masks nothing there.
    """
    model.set_attn_implementation("sdpa")
    text, cache = list(ids), DynamicCache()
    for _ in range(tokens):
        if len(text) == original_length + 1:
            cache = DynamicCache()
        inputs = torch.tensor([text[cache.get_seq_length() :]])
        with torch.no_grad():
            logits = model(inputs, past_key_values=cache, use_cache=True).logits
        text.append(int(logits[0, -1].argmax()))
    return text[len(ids) :]


def test_generation_crosses_the_original_length(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = _convert(_longrope(4096), tmp_path)
    row = architectures.prompt(4090)

    assert model.greedy(row, 16) == _greedy_across(model.reference, row, 16, 4096)
    assert "warning" not in capsys.readouterr().err


def test_unusual_original_length_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The runtime recomputes at one fixed length: keys of the short factors stay in the cache."""
    model = _convert(_longrope(128), tmp_path)
    row = architectures.prompt(120)

    generated = model.greedy(row, 24)

    expected = _greedy_across(model.reference, row, 24, 128)
    assert generated[:9] == expected[:9]
    assert generated != expected
    assert "an answer that grows past 128 tokens differs" in capsys.readouterr().err


def test_unfused_longrope_is_rejected(tmp_path: Path) -> None:
    """The kernel does not support the head size, and optimum's graph has the short factors only."""
    with pytest.raises(UserError, match="has only the short factors of LongRoPE"):
        _convert(_phi3(128, hidden_size=96, rope_scaling=architectures.longrope(24)), tmp_path)


@pytest.mark.parametrize("name", ["llama", *_parameters(["phi4_mini", "gemma"])])
def test_tied_embedding_is_quantized_once(name: str, converted: Converter) -> None:
    """The conversion itself proves the values; this checks that they are stored once."""
    model = converted(name, "cpu_int4_rtn")
    folder = model.folder
    graph = onnx.load(folder / GRAPH_FILE, load_external_data=False).graph
    config = (FUSED | UNFUSED)[name]
    weights = config.vocab_size * config.hidden_size

    gather = next(node for node in graph.node if node.op_type == "GatherBlockQuantized")
    head = next(node for node in graph.node if node.name.startswith("/lm_head/MatMul"))
    table = next(node for node in graph.node if gather.input[0] in node.output)
    packed = [tensor for tensor in graph.initializer if np.prod(tensor.dims) == weights // 2]

    assert head.op_type == "MatMulNBits"
    assert head.input[1] == table.input[0] == packed[0].name
    assert head.input[2] == gather.input[2]
    assert len(packed) == 1
    fp32_size = (model.weights / "model.safetensors").stat().st_size
    assert (folder / WEIGHTS_FILE).stat().st_size < fp32_size / 4


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("qwen2", "cpu_int4"),
        pytest.param("qwen2", "cuda_fp16", marks=pytest.mark.long),
        pytest.param("gemma3", "cuda_fp16", marks=pytest.mark.long),
    ],
)
def test_rounded_targets_are_proven(name: str, target: str, converted: Converter) -> None:
    exact = converted(name, target).record.exact_max_abs_diff

    assert exact is not None
    assert exact < 1e-4


GPT = {"vocab_size": 1024, "n_embd": 32, "n_layer": 1, "n_head": 2}


@pytest.mark.parametrize(
    "config",
    [
        Starcoder2Config(**SIZES),
        GPT2Config(**GPT),
        BloomConfig(vocab_size=1024, hidden_size=32, n_layer=1, n_head=2),
        FalconConfig(vocab_size=1024, hidden_size=32, num_hidden_layers=1, num_attention_heads=2),
    ],
    ids=lambda config: config.model_type,
)
@pytest.mark.parametrize("exporter", list(ExporterName))
def test_unsupported_architecture_is_rejected_first(
    tmp_path: Path, config: Any, exporter: ExporterName
) -> None:
    """The weights are not a safetensors file: reading them would fail with another message."""
    name = f"{type(config).__name__.removesuffix('Config')}ForCausalLM"
    config.architectures = [name]
    weights = edited_bundle(tmp_path / "weights", **config.to_dict())
    (weights / "model.safetensors").write_bytes(b"")

    with pytest.raises(UserError, match=f"does not support {name}.* Use another model"):
        convert(weights, tmp_path / "onnx", "cpu_fp32", exporter=exporter)


def test_architecture_of_the_builder_alone_is_rejected_first(tmp_path: Path) -> None:
    """The weights are not LFM2's: reading them would fail with another message."""
    fields = {"architectures": ["Lfm2ForCausalLM"], "model_type": "lfm2"}
    weights = edited_bundle(tmp_path / "weights", **fields)

    with pytest.raises(UserError, match=r"does not support Lfm2ForCausalLM.* exporter=builder"):
        convert(weights, tmp_path / "onnx", "cpu_fp32")
