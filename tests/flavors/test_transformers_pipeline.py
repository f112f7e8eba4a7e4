"""The logged transformers model: logged and loaded offline, with correct answers and metadata."""

import json
import socket
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.models import ModelSignature
from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA

from slmflow.config import compose as configs
from slmflow.config.schema.generation import Generation
from slmflow.errors import UserError
from slmflow.flavors import transformers_pipeline
from slmflow.flavors.provenance import Provenance, SourceEntry
from slmflow.flavors.transformers_pipeline import pipeline_options
from slmflow.paths import PROJECT
from slmflow.pipeline.results import TransformersModel, Weights
from steps.log_transformers import log_transformers
from tests.fixtures.bundled_model import StepInputs

WEIGHTS = PROJECT / "bundled" / "tiny_phi3"
QUESTION = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}


@pytest.fixture
def dns_lookups(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record DNS lookups and make each fail.

    The hub's client reads HF_HUB_OFFLINE when it is imported. It is imported here, in online mode,
    so that the step's own setting comes too late and the test depends on no request being made.
    """
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    import transformers  # noqa: F401

    lookups: list[Any] = []

    def fail(*address: Any, **_: Any) -> None:
        lookups.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    return lookups


def generate_with_transformers(max_tokens: int) -> tuple[list[int], list[int], str]:
    """Return prompt ids, ids of the greedy answer, and its text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    model = AutoModelForCausalLM.from_pretrained(WEIGHTS).eval()
    prompt = tokenizer.apply_chat_template(
        QUESTION["messages"], add_generation_prompt=True, return_dict=False
    )
    inputs = torch.tensor([prompt])
    ids = model.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        do_sample=False,
        max_new_tokens=max_tokens,
    )[0, len(prompt) :].tolist()
    return prompt, ids, tokenizer.decode(ids, skip_special_tokens=True).lstrip()


def test_logging_and_answering_need_no_network(
    tracking: str, weights: Path, dns_lookups: list[Any]
) -> None:
    with mlflow.start_run():
        logged = log_transformers(
            StepInputs(configs.load(["generation.max_new_tokens=40"]), weights)
        )
    model = mlflow.pyfunc.load_model(logged.model_uri)
    for max_tokens in (40, 3):
        prompt, ids, text = generate_with_transformers(max_tokens)
        [completion] = model.predict({**QUESTION, "max_tokens": max_tokens})
        choice = completion["choices"][0]
        assert choice["message"] == {"role": "assistant", "content": text}
        assert choice["finish_reason"] == ("length" if len(ids) == max_tokens else "stop")
        assert completion["usage"]["prompt_tokens"] == len(prompt)
        assert completion["usage"]["completion_tokens"] == len(ids)
    assert dns_lookups == []
    assert model.metadata.signature == ModelSignature(
        CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA
    )
    assert logged.size_bytes > (WEIGHTS / "model.safetensors").stat().st_size
    folder = Path(mlflow.artifacts.download_artifacts(logged.model_uri))
    example = json.loads((folder / "input_example.json").read_text())
    assert model.predict(example)
    pins = dict(line.split("==") for line in (folder / "requirements.txt").read_text().split())
    assert pins.keys() == {"mlflow", "numpy", "pandas", "torch", "transformers"}
    assert not [version for version in pins.values() if "+" in version]
    assert metadata.version("torch").startswith(pins["torch"])


def test_generation_options_use_transformers_names() -> None:
    greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    assert pipeline_options(Generation(64, 0.0, 1.0), {}) == {"max_new_tokens": 64} | greedy
    sampling = {"do_sample": True, "temperature": 0.7, "top_p": 0.9}
    assert pipeline_options(Generation(8, 0.7, 0.9), {}) == {"max_new_tokens": 8} | sampling


@pytest.mark.parametrize(
    "front_matter",
    ["[" * 20_000, "a: 2001-99-99", "- a", "a: !!python/object/apply:os.system ['id']"],
)
def test_unreadable_model_card_is_left_out(
    tmp_path: Path, front_matter: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "README.md").write_text(f"---\n{front_matter}\n---\nA model\n")
    assert transformers_pipeline._model_card(tmp_path) is None
    assert "logged without its card" in capsys.readouterr().err


@pytest.mark.parametrize("architectures", [["EvilForCausalLM"], [], "Phi3ForCausalLM", [1]])
def test_model_with_custom_code_is_rejected(
    tmp_path: Path, weights: Path, architectures: object
) -> None:
    config = {
        "architectures": architectures,
        "auto_map": {"AutoConfig": "evil/code--configuration.Evil"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    source = SourceEntry.from_result(
        Weights(str(weights)), folder=transformers_pipeline.CHECKPOINT_FOLDER
    )
    provenance = Provenance.collect(TransformersModel, configs.load([]), source)
    with pytest.raises(UserError, match="needs custom code, which slmflow never runs"):
        transformers_pipeline.log(tmp_path, provenance, Generation(8, 0.0, 1.0))
