"""The bundled model three ways: transformers itself, an ONNX folder, and logged MLflow models."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import mlflow
import pytest

from steps.common import config as configs
from steps.common import store
from steps.common.config import Config
from steps.common.results import key_of
from steps.convert.result import OnnxModel
from steps.fetch.__main__ import bring
from steps.fetch.result import Weights
from steps.log_genai.__main__ import log_genai
from steps.log_genai.result import GenaiModel
from steps.log_transformers.__main__ import log_transformers
from steps.log_transformers.result import TransformersModel
from tests.tracking import database

R = TypeVar("R")


@dataclass(frozen=True)
class Reference:
    """What transformers makes of the same weights."""

    tokenizer: Any
    model: Any

    def prompt(self, messages: list[dict[str, str]]) -> list[int]:
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)

    def generate(
        self, messages: list[dict[str, str]], max_new_tokens: int, **options: Any
    ) -> list[int]:
        """The token ids of the greedy answer, with its end token."""
        return self.go_on(self.prompt(messages), max_new_tokens, **options)

    def go_on(self, prompt: list[int], max_new_tokens: int, **options: Any) -> list[int]:
        """The token ids that follow a prompt's, greedily."""
        import torch

        ids = torch.tensor([prompt])
        out = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=max_new_tokens,
            **options,
        )
        return out[0, len(prompt) :].tolist()

    def text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True).lstrip()

    def ends(self, ids: list[int]) -> bool:
        return ids[-1] in self.model.generation_config.eos_token_id

    def score(self, messages: list[dict[str, str]], answer: str) -> tuple[float, int]:
        import torch

        prompt = self.prompt(messages)
        ids = self.tokenizer.encode(answer, add_special_tokens=False)
        with torch.no_grad():
            logits = self.model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        chosen = logits.double().log_softmax(-1).gather(1, torch.tensor(ids)[:, None])
        return chosen.sum().item(), len(ids)


@dataclass(frozen=True)
class AStep:
    """The two things a step asks its surroundings for; what it needs lies in these folders."""

    config: Config
    weights: Path
    onnx: Path | None = None

    def ensure(self, kind: Callable[..., R]) -> R:
        return kind(path=str(self.weights if kind is Weights else self.onnx))


FP32 = ("target=cpu_fp32", "generation.max_new_tokens=48")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that all workers share."""
    shared = tmp_path_factory.getbasetemp()
    return (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "flavors"


def _in_store(home: Path, kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """An entry that the first worker to want it makes for all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLMFLOW_HOME", str(home))
        return store.get_or_build(kind, key, build)


@pytest.fixture(scope="session")
def weights(home: Path) -> Path:
    config = configs.load(FP32)
    key = key_of(Weights, config)
    return _in_store(home, "weights", key, lambda folder: bring(config.model, folder))


@pytest.fixture(scope="session")
def reference(weights: Path) -> Reference:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(weights).eval()
    return Reference(AutoTokenizer.from_pretrained(weights), model)


@pytest.fixture(scope="session")
def onnx(home: Path, weights: Path) -> Path:
    from steps.convert.conversion import convert_model  # here, because it imports torch

    config = configs.load(FP32)

    def convert(folder: Path) -> None:
        convert_model(weights, folder, config.target, config.exporter.name)

    return _in_store(home, "onnx", key_of(OnnxModel, config), convert)


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The id of an experiment that keeps its models in a folder of this session."""
    folder = tmp_path_factory.mktemp("tracking")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(database(folder))
    yield mlflow.create_experiment("flavors", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_tracking_uri(before)


def _log(weights: Path, onnx: Path, experiment: str, *overrides: str) -> GenaiModel:
    config = configs.load([*FP32, *overrides])
    with mlflow.start_run(experiment_id=experiment):
        return log_genai(AStep(config, weights, onnx))


@pytest.fixture(scope="session")
def chat(weights: Path, onnx: Path, experiment: str) -> GenaiModel:
    return _log(weights, onnx, experiment)


@pytest.fixture(scope="session")
def prompted(weights: Path, onnx: Path, experiment: str) -> GenaiModel:
    return _log(weights, onnx, experiment, "log_genai.interface=prompt")


@pytest.fixture(scope="session")
def pipeline(weights: Path, experiment: str) -> TransformersModel:
    """The transformers flavor of the same weights, with the same options."""
    config = configs.load(FP32)
    with mlflow.start_run(experiment_id=experiment):
        return log_transformers(AStep(config, weights))
