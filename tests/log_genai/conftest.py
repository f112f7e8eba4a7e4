"""The bundled model three ways: transformers itself, an ONNX folder, and logged MLflow models."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
from filelock import FileLock
from mlflow.pyfunc import PyFuncModel

from steps.common import config as configs
from steps.common.config import PROJECT, Config, ExporterName
from steps.convert.conversion import convert_model
from steps.convert.result import OnnxModel
from steps.log_genai.__main__ import log_genai
from steps.log_genai.model import GenaiPyfunc
from steps.log_genai.result import GenaiModel


@dataclass(frozen=True)
class Reference:
    """What transformers makes of the same weights."""

    tokenizer: Any
    model: Any

    def prompt(self, messages: list[dict[str, str]]) -> list[int]:
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)

    def generate(self, messages: list[dict[str, str]], max_new_tokens: int) -> list[int]:
        """The token ids of the greedy answer, with its end token."""
        import torch

        prompt = torch.tensor([self.prompt(messages)])
        ids = self.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=max_new_tokens,
        )
        return ids[0, prompt.shape[1] :].tolist()

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
    """The two things a step asks its surroundings for."""

    config: Config
    onnx: Path

    def ensure(self, kind: type[OnnxModel]) -> OnnxModel:
        return kind(path=str(self.onnx))


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
def pyfunc(chat: GenaiModel) -> PyFuncModel:
    """The chat model as MLflow loads it, with the check of the signature before it."""
    return mlflow.pyfunc.load_model(chat.model_uri)


@pytest.fixture(scope="session")
def bare(pyfunc: PyFuncModel) -> GenaiPyfunc:
    """The same without that check."""
    return pyfunc.unwrap_python_model()


@pytest.fixture(scope="session")
def questions() -> list[list[dict[str, str]]]:
    """Conversations of every shape the chat template knows; some answers are not ASCII."""
    lines = (PROJECT / "bundled" / "capitals" / "evaluation.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    asked = [row["question"] for row in rows if not row["answer"].isascii()]
    asked += [row["question"] for row in rows[:60:10]]
    return [
        *([{"role": "user", "content": question}] for question in asked),
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": asked[0]}],
        [
            {"role": "user", "content": asked[0]},
            {"role": "assistant", "content": "Ask me another."},
            {"role": "user", "content": asked[1]},
        ],
    ]
