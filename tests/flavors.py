"""The bundled model three ways: transformers itself, an ONNX folder, and logged MLflow models.

Fixtures for the conftest.py of those who test what is logged.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import mlflow
import pytest
from filelock import FileLock

from steps.common import config as configs
from steps.common.config import Config
from steps.common.paths import PROJECT
from steps.common.schema.target import ExporterName
from steps.convert.conversion import convert_model
from steps.log_genai.__main__ import log_genai
from steps.log_genai.result import GenaiModel
from steps.log_transformers.__main__ import log_transformers
from steps.log_transformers.result import TransformersModel

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
    """The two things a step asks its surroundings for; all it needs lies in one folder."""

    config: Config
    folder: Path

    def ensure(self, kind: Callable[..., R]) -> R:
        return kind(path=str(self.folder))


@pytest.fixture(scope="session")
def weights() -> Path:
    return PROJECT / "bundled" / "tiny_phi3"


@pytest.fixture(scope="session")
def reference(weights: Path) -> Reference:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(weights).eval()
    return Reference(AutoTokenizer.from_pretrained(weights), model)


@pytest.fixture(scope="session")
def onnx(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the first worker to want it makes for all."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "onnx"
    with FileLock(shared / "onnx.lock"):
        if not folder.exists():
            making = tmp_path_factory.mktemp("making") / "onnx"
            making.mkdir()
            target = configs.load(["target=cpu_fp32"]).target
            convert_model(weights, making, target, ExporterName.optimum)
            making.rename(folder)
    return folder


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The id of an experiment that keeps its models in a folder of this session."""
    folder = tmp_path_factory.mktemp("tracking")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    yield mlflow.create_experiment("flavors", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_tracking_uri(before)


def _log(onnx: Path, experiment: str, *overrides: str) -> GenaiModel:
    config = configs.load(["generation.max_new_tokens=48", *overrides])
    with mlflow.start_run(experiment_id=experiment):
        return log_genai(AStep(config, onnx))


@pytest.fixture(scope="session")
def chat(onnx: Path, experiment: str) -> GenaiModel:
    return _log(onnx, experiment)


@pytest.fixture(scope="session")
def prompted(onnx: Path, experiment: str) -> GenaiModel:
    return _log(onnx, experiment, "log_genai.interface=prompt")


@pytest.fixture(scope="session")
def pipeline(weights: Path, experiment: str) -> TransformersModel:
    """The transformers flavor of the same weights, with the same options."""
    config = configs.load(["generation.max_new_tokens=48"])
    with mlflow.start_run(experiment_id=experiment):
        return log_transformers(AStep(config, weights))
