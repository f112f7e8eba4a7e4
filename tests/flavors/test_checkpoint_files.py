"""Checkpoints as transformers 4 and 5 write them, fetched, converted, logged and asked.

The answers of both flavors must be those of transformers for the folder as it was given.
"""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from mlflow.pyfunc import PyFuncModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from slmflow.config import compose as configs
from slmflow.config.schema.model import Model, Source
from slmflow.conversion.convert import convert_model
from slmflow.pipeline import entries
from steps.fetch import fetch_checkpoint
from steps.log_genai import log_genai
from steps.log_transformers import log_transformers
from tests.conversion import architectures
from tests.conversion.architectures import BUNDLED, FUSED
from tests.fixtures.bundled_model import FP32, Reference, StepInputs
from tests.fixtures.variants import edit_json

TURNS = [{"role": "user", "content": "What is the capital of France?"}]
TURN = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' }}\n{{ m.content }}{{ turn_end_token }}\n"
    "{% endfor %}<|assistant|>\n"
)


def _as_transformers_4(folder: Path) -> None:
    shutil.copytree(BUNDLED, folder, dirs_exist_ok=True)


def _as_transformers_5(folder: Path) -> None:
    """The files of `save_pretrained`, with all that only transformers 5 writes."""
    _as_transformers_4(folder)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), _tokenizer(folder)
    tokenizer.chat_template = {"default": tokenizer.chat_template, "tool_use": "{{ tools }}"}
    shutil.rmtree(folder)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = folder / "tokenizer_config.json"
    edit_json(settings, extra_special_tokens=["<|user|>", "<|system|>"])
    written = json.loads(settings.read_text())
    assert written["tokenizer_class"] == "TokenizersBackend"
    assert not written.keys() & {"added_tokens_decoder", "chat_template"}
    assert not (folder / "special_tokens_map.json").exists()
    assert (folder / "chat_template.jinja").exists()
    assert (folder / "additional_chat_templates" / "tool_use.jinja").exists()


def _in_bfloat16(folder: Path) -> None:
    _as_transformers_4(folder)
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"


def _with_named_extra_tokens(folder: Path) -> None:
    _as_transformers_4(folder)
    extra = {"turn_end_token": "<|end|>"}
    edit_json(folder / "tokenizer_config.json", extra_special_tokens=extra, chat_template=TURN)


def _with_metaspace(folder: Path) -> None:
    _as_transformers_4(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text()) | {"normalizer": None}
    tokenizer["pre_tokenizer"] = {
        **{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    edit_json(folder / "tokenizer_config.json", legacy=False)


def _with_method_calls(folder: Path) -> None:
    _as_transformers_4(folder)
    template = TURN.replace("{{ m.content }}", "{{ m.content.replace('/no_think', '').rstrip() }}")
    template = template.replace("turn_end_token", "'<|end|>'")
    edit_json(folder / "tokenizer_config.json", chat_template=template)


def _with_rebuilt_tokenizer(folder: Path, name: str, tokenizer_class: str) -> None:
    """A model for which transformers ignores most of tokenizer.json."""
    shutil.rmtree(folder, ignore_errors=True)
    architectures.save_random_model(FUSED[name], folder)
    edit_json(folder / "tokenizer_config.json", tokenizer_class=tokenizer_class)
    plain, rebuilt = _tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert plain("  a b").input_ids != rebuilt("  a b").input_ids


def _tokenizer(folder: Path) -> Any:
    return PreTrainedTokenizerFast.from_pretrained(folder)


_NOT_LONG = ("transformers 5", "bfloat16", "Qwen2Tokenizer")
CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    "transformers 4": _as_transformers_4,
    "transformers 5": _as_transformers_5,
    "bfloat16": _in_bfloat16,
    "named extra tokens": _with_named_extra_tokens,
    "Metaspace": _with_metaspace,
    "method calls in the template": _with_method_calls,
    "LlamaTokenizer": lambda folder: _with_rebuilt_tokenizer(folder, "llama", "LlamaTokenizer"),
    "Qwen2Tokenizer": lambda folder: _with_rebuilt_tokenizer(folder, "qwen2", "Qwen2Tokenizer"),
}


@pytest.fixture
def log(
    tmp_path: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], list[PyFuncModel]]:
    """Return a function that fetches, converts and logs a checkpoint, and loads both flavors."""
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "store"))

    def fetch_and_log(given: Path) -> list[PyFuncModel]:
        model = Model("given", Source.local, path=str(given))
        config = configs.load([*FP32])
        weights = entries.get_or_build("weights", "0" * 64, partial(fetch_checkpoint, model))
        onnx = entries.get_or_build(
            "onnx",
            "0" * 64,
            lambda folder: convert_model(
                weights, folder, config.target, config.exporter.name, config.calibration
            ),
        )
        loaded = []
        for log_flavor in (log_transformers, log_genai):
            with mlflow.start_run():
                result = log_flavor(StepInputs(config, weights, onnx))
            loaded.append(mlflow.pyfunc.load_model(result.model_uri))
        return loaded

    return fetch_and_log


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in _NOT_LONG else pytest.mark.long)
        for name in CHECKPOINTS
    ],
)
def test_answers_of_both_flavors_equal_transformers(
    tmp_path: Path, log: Callable[[Path], list[PyFuncModel]], name: str
) -> None:
    given = tmp_path / "given"
    CHECKPOINTS[name](given)
    model = AutoModelForCausalLM.from_pretrained(given, dtype=torch.float32).eval()
    reference = Reference(_tokenizer(given), model)
    expected = reference.generate(TURNS, 24)

    flavors = log(given)

    for flavor in flavors:
        [completion] = flavor.predict({"messages": TURNS, "max_tokens": 24})
        assert completion["choices"][0]["message"]["content"] == reference.text(expected)
        assert completion["usage"]["prompt_tokens"] == len(reference.prompt(TURNS))
    assert flavors[0].get_raw_model().model.dtype == torch.float32
