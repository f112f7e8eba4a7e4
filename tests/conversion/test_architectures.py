"""Whole conversions of all architectures, in the GenAI runtime, against transformers' own code."""

import functools
import json
import shutil
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

from slmflow.config.compose import load as load_config
from slmflow.config.schema.target import ExporterName
from slmflow.conversion import proof_graphs
from slmflow.conversion.convert import Conversion, convert_model
from slmflow.conversion.external_data import GRAPH
from slmflow.conversion.graph_runtime import Runtime
from slmflow.errors import UserError
from tests.conversion import architectures
from tests.conversion.architectures import BUNDLED, FUSED, SIZES, UNFUSED, WRONG

# Shorter and longer than the sliding windows; the answers cross them.
LENGTHS = (5, 40)
TOKENS = 64

# Those of `conf/model`, and one that stays as exported; the others by `make test-long`.
_SOONER = ("phi3", "phi3_longrope", "phi4_mini", "llama", "qwen2", "olmo")


def sooner(names: Iterable[str]) -> list[ParameterSet]:
    return [pytest.param(name, marks=() if name in _SOONER else pytest.mark.long) for name in names]


@dataclass(frozen=True)
class Converted:
    """One architecture on both sides."""

    weights: Path
    folder: Path
    record: Conversion

    @functools.cached_property
    def original(self) -> Any:
        return architectures.load(self.weights)

    @functools.cached_property
    def runtime(self) -> Runtime:
        return Runtime(self.folder, GRAPH)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Converted]:
    """Return what converts an architecture, once for all tests of this file."""

    @functools.cache
    def convert(name: str, target: str = "cpu_fp32") -> Converted:
        weights = tmp_path_factory.mktemp(name) / "weights"
        architectures.save((FUSED | UNFUSED | WRONG)[name], weights)
        return _convert(weights, target)

    return convert


def _convert(weights: Path, target: str = "cpu_fp32") -> Converted:
    folder = weights.parent / target
    folder.mkdir()
    convert_model(weights, folder, load_config([f"target={target}"]).target, ExporterName.optimum)
    return Converted(weights, folder, Conversion.read(folder))


def _initializers(folder: Path) -> dict[str, onnx.TensorProto]:
    model = onnx.load(folder / GRAPH, load_external_data=False)
    return {tensor.name: tensor for tensor in model.graph.initializer}


@pytest.mark.parametrize("name", sooner(FUSED))
def test_every_attention_and_norm_is_fused(name: str, converted: Callable[..., Converted]) -> None:
    passes = {matched.name: matched for matched in converted(name).record.passes}

    assert passes["attention"].matched == FUSED[name].num_hidden_layers
    assert passes["norms"].matched == passes["norms"].candidates > 0
    assert passes["last_position"].matched == 1
    assert not [matched.reason for matched in passes.values() if matched.reason]


@pytest.mark.parametrize("name", sooner([*FUSED, *UNFUSED]))
def test_logits_are_those_of_transformers(name: str, converted: Callable[..., Converted]) -> None:
    model = converted(name)
    rows = [architectures.prompt(length) for length in (*LENGTHS, 23, 100)]
    expected = [architectures.logits(model.original, row) for row in rows]

    with proof_graphs.all_positions(model.folder) as graph:
        runtime = Runtime(model.folder, graph)
        found = [runtime.logits(row) for row in rows]
    batch = model.runtime.continued(rows, 1)[0]

    for alone, last, right in zip(found, batch, expected, strict=True):
        np.testing.assert_allclose(alone, right, atol=1e-3, rtol=0)
        np.testing.assert_allclose(last, right[-1], atol=1e-3, rtol=0)
        assert np.ptp(right) > 1  # or the tolerance would hide another computation


@pytest.mark.parametrize("name", sooner([*FUSED, *UNFUSED]))
def test_greedy_answers_are_those_of_transformers(
    name: str, converted: Callable[..., Converted]
) -> None:
    model = converted(name)
    rows = [architectures.prompt(length) for length in LENGTHS]

    expected = [architectures.greedy(model.original, row, TOKENS) for row in rows]

    assert [len(answer) for answer in expected] == [TOKENS] * len(rows)
    assert [model.runtime.greedy([row], TOKENS)[0] for row in rows] == expected
    assert model.runtime.greedy(rows, TOKENS) == expected


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("olmo", "OlmoAttention is not known"),
        *(
            pytest.param(*each, marks=pytest.mark.long)
            for each in (
                ("granite", "GraniteAttention is not known"),
                ("phi", "PhiAttention is not known"),
                ("llama_dynamic", "model.rotary_emb of type dynamic is not known"),
                ("llama_odd_heads", "the kernel rotates heads of 16, 32, 48, ..., not of 24"),
            )
        ),
    ],
)
def test_what_stays_as_exported_is_said(
    name: str,
    said: str,
    converted: Callable[..., Converted],
) -> None:
    attention = converted(name).record.passes[0]

    assert (attention.name, attention.matched, attention.reason) == ("attention", 0, said)
    config = json.loads((converted(name).folder / "genai_config.json").read_text())
    assert config["search"]["past_present_share_buffer"] is False


def test_a_window_that_padding_would_fill_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Phi3Config(
        **SIZES | {"hidden_size": 96, "num_key_value_heads": 4},
        original_max_position_embeddings=512,
        sliding_window=400,
    )

    _convert(architectures.save(config, tmp_path / "weights"))

    said = capsys.readouterr().err
    assert "graph pass attention: the kernel rotates heads of 16, 32, 48, ..., not of 24" in said
    assert "counts padding in the sliding window of 400 tokens" in said


def test_a_graph_wrong_in_padded_batches_is_refused(
    converted: Callable[..., Converted],
) -> None:
    """optimum's Nemotron has no position_ids: in an answer they count a shorter row's padding."""
    with pytest.raises(UserError, match="the ONNX graph is not the original"):
        converted("nemotron")


@pytest.mark.parametrize("name", ["phi3_longrope", "phi4_mini"])
def test_beyond_the_original_length(name: str, converted: Callable[..., Converted]) -> None:
    model = converted(name)
    row = architectures.prompt(140)

    with proof_graphs.all_positions(model.folder) as graph:
        found = Runtime(model.folder, graph).logits(row)

    np.testing.assert_allclose(found, architectures.logits(model.original, row), atol=1e-3, rtol=0)
    expected = architectures.greedy(model.original, row, TOKENS)
    assert model.runtime.greedy([row], TOKENS)[0] == expected


def _longrope(original: int) -> Phi3Config:
    return Phi3Config(
        **SIZES | {"num_key_value_heads": 4, "max_position_embeddings": original + 128},
        original_max_position_embeddings=original,
        rope_scaling=architectures.longrope(16),
    )


def _greedy_across(model: Any, ids: list[int], tokens: int, border: int) -> list[int]:
    """Return transformers' greedy answer, its cache made anew once the text is beyond the border.

    So does its own `generate` for Phi-3, but with eager attention no token there is masked.
    """
    text, cache = list(ids), DynamicCache()
    for _ in range(tokens):
        if len(text) == border + 1:
            cache = DynamicCache()
        given = torch.tensor([text[cache.get_seq_length() :]])
        with torch.no_grad():
            logits = model(given, past_key_values=cache, use_cache=True).logits
        text.append(int(logits[0, -1].argmax()))
    return text[len(ids) :]


def test_an_answer_crosses_the_original_length(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = _convert(architectures.save(_longrope(4096), tmp_path / "weights"))
    model.original.set_attn_implementation("sdpa")
    row = architectures.prompt(4090)

    found = model.runtime.greedy([row], 16)[0]

    assert found == _greedy_across(model.original, row, 16, 4096)
    assert "warning" not in capsys.readouterr().err


def test_another_original_length_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The runtime's border is fixed: the short factors' keys stay in the cache."""
    model = _convert(architectures.save(_longrope(128), tmp_path / "weights"))
    model.original.set_attn_implementation("sdpa")
    row = architectures.prompt(120)

    found = model.runtime.greedy([row], 24)[0]

    expected = _greedy_across(model.original, row, 24, 128)
    assert found[:9] == expected[:9]
    assert found != expected
    assert "an answer that grows past 128 is another from there on" in capsys.readouterr().err


def test_longrope_that_is_not_fused_is_refused(tmp_path: Path) -> None:
    """The head size is none the kernel rotates, and optimum's graph has the short factors only."""
    config = Phi3Config(
        **SIZES | {"hidden_size": 96, "num_key_value_heads": 4},
        original_max_position_embeddings=128,
        rope_scaling=architectures.longrope(24),
    )

    with pytest.raises(UserError, match="has but the short factors of its LongRoPE"):
        _convert(architectures.save(config, tmp_path / "weights"))


@pytest.mark.parametrize("name", sooner(["llama", "phi4_mini", "gemma"]))
def test_a_tied_embedding_is_quantized_once(name: str, converted: Callable[..., Converted]) -> None:
    """That it converts at all is the proof: it compares exactly."""
    folder = converted(name, "cpu_int4").folder
    graph = onnx.load(folder / GRAPH, load_external_data=False).graph
    config = (FUSED | UNFUSED)[name]
    weights = config.vocab_size * config.hidden_size

    gather = next(node for node in graph.node if node.op_type == "GatherBlockQuantized")
    head = next(node for node in graph.node if node.name.startswith("/lm_head/MatMul"))
    table = next(node for node in graph.node if gather.input[0] in node.output)
    packed = [t for t in _initializers(folder).values() if np.prod(t.dims) == weights // 2]

    assert head.op_type == "MatMulNBits"
    assert head.input[1] == table.input[0] == packed[0].name
    assert head.input[2] == gather.input[2]
    assert len(packed) == 1
    in_fp32 = sum(file.stat().st_size for file in converted(name).folder.glob(f"{GRAPH}.data"))
    assert (folder / f"{GRAPH}.data").stat().st_size < in_fp32 / 4


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("qwen2", "cpu_int4"),
        ("qwen2", "cuda_fp16"),
        pytest.param("gemma3", "cuda_fp16", marks=pytest.mark.long),
    ],
)
def test_other_targets_are_proven(
    name: str, target: str, converted: Callable[..., Converted]
) -> None:
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
def test_an_architecture_the_runtime_does_not_know_is_refused_first(
    tmp_path: Path, config: Any, exporter: ExporterName
) -> None:
    """The weights are no safetensors file: any look at them would fail in another way."""
    name = f"{type(config).__name__.removesuffix('Config')}ForCausalLM"
    weights = tmp_path / "weights"
    shutil.copytree(BUNDLED, weights)
    (weights / "model.safetensors").write_bytes(b"")
    config.architectures = [name]
    config.save_pretrained(weights)
    target = load_config(["target=cpu_fp32"]).target

    with pytest.raises(UserError, match=f"ONNX Runtime GenAI does not run {name}"):
        convert_model(weights, tmp_path, target, exporter)


def test_what_optimum_does_not_know_is_refused_first(tmp_path: Path) -> None:
    """The runtime knows LFM2, by its own builder's graph only; these are no weights of it."""
    weights = tmp_path / "weights"
    shutil.copytree(BUNDLED, weights)
    fields = json.loads((weights / "config.json").read_text())
    fields |= {"architectures": ["Lfm2ForCausalLM"], "model_type": "lfm2"}
    (weights / "config.json").write_text(json.dumps(fields))
    target = load_config(["target=cpu_fp32"]).target

    with pytest.raises(UserError, match="optimum cannot export Lfm2ForCausalLM"):
        convert_model(weights, tmp_path, target, ExporterName.optimum)
