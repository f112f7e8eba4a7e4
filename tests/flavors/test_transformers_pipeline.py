"""The logged transformers model: logged and loaded without the hub, and true in what it says."""

import json
import socket
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.models import ModelSignature
from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA

from slmflow.checkpoints.result import Weights
from slmflow.config import compose as configs
from slmflow.config.schema.generation import Generation
from slmflow.errors import UserError
from slmflow.flavors import transformers_pipeline
from slmflow.flavors.provenance import Provenance, Source
from slmflow.flavors.transformers_pipeline import pipeline_options
from slmflow.flavors.transformers_result import TransformersModel
from slmflow.paths import PROJECT
from steps.log_transformers import log_transformers
from tests.fixtures.bundled_model import AStep

WEIGHTS = PROJECT / "bundled" / "tiny_phi3"
QUESTION = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The names asked for on the network; each is refused.

    The hub's client reads whether it is offline when it is imported: here, so that what the step
    says of that comes too late and nothing is asked all the same.
    """
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    import transformers  # noqa: F401

    asked: list[Any] = []

    def refuse(*address: Any, **_: Any) -> None:
        asked.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


def expected_ids(limit: int) -> tuple[list[int], list[int], str]:
    """Prompt ids, ids of the greedy answer, and its text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    model = AutoModelForCausalLM.from_pretrained(WEIGHTS).eval()
    prompt = tokenizer.apply_chat_template(QUESTION["messages"], add_generation_prompt=True)
    inputs = torch.tensor([prompt])
    ids = model.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        do_sample=False,
        max_new_tokens=limit,
    )[0, len(prompt) :].tolist()
    return prompt, ids, tokenizer.decode(ids, skip_special_tokens=True).lstrip()


def test_it_is_logged_and_answers_without_asking_anyone(
    tracking: str, weights: Path, lookups: list[Any]
) -> None:
    with mlflow.start_run():
        logged = log_transformers(AStep(configs.load(["generation.max_new_tokens=40"]), weights))
    model = mlflow.pyfunc.load_model(logged.model_uri)
    for limit in (40, 3):
        prompt, ids, text = expected_ids(limit)
        [completion] = model.predict({**QUESTION, "max_tokens": limit})
        choice = completion["choices"][0]
        assert choice["message"] == {"role": "assistant", "content": text}
        assert choice["finish_reason"] == ("length" if len(ids) == limit else "stop")
        assert completion["usage"]["prompt_tokens"] == len(prompt)
        assert completion["usage"]["completion_tokens"] == len(ids)
    assert lookups == []
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


def test_the_options_are_those_of_the_pipeline() -> None:
    assert pipeline_options(Generation(64, 0.0, 1.0)) == {
        "max_new_tokens": 64,
        "do_sample": False,
        "temperature": None,
        "top_p": None,
        "top_k": None,
    }
    assert pipeline_options(Generation(8, 0.7, 0.9)) == {
        "max_new_tokens": 8,
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.9,
    }


@pytest.mark.parametrize(
    "head", ["[" * 20_000, "a: 2001-99-99", "- a", "a: !!python/object/apply:os.system ['id']"]
)
def test_a_card_that_cannot_be_read_is_left_out(
    tmp_path: Path, head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "README.md").write_text(f"---\n{head}\n---\nA model\n")
    assert transformers_pipeline._model_card(tmp_path) is None
    assert "logged without its card" in capsys.readouterr().err


@pytest.mark.parametrize("names", [["EvilForCausalLM"], [], "Phi3ForCausalLM", [1]])
def test_a_model_that_needs_code_of_its_own_is_refused(
    tmp_path: Path, weights: Path, names: object
) -> None:
    config = {"architectures": names, "auto_map": {"AutoConfig": "evil/code--configuration.Evil"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    source = Source.of(Weights(str(weights)), folder=transformers_pipeline.CHECKPOINT)
    provenance = Provenance.of(TransformersModel, configs.load([]), source)
    with pytest.raises(UserError, match="code of its makers, which is never run"):
        transformers_pipeline.log(tmp_path, provenance, Generation(8, 0.0, 1.0))
