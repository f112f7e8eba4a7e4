import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
import torch
from mlflow.models import Model, ModelSignature
from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA
from transformers import AutoModelForCausalLM, AutoTokenizer

from slmflow.datasets.rows import Row
from slmflow.flavors.chat_interfaces import request_completion
from slmflow.measurement.likelihood import find_scorer
from slmflow.paths import PROJECT
from tests.measurement.test_interleaved import conversation

pytestmark = pytest.mark.usefixtures("tracking")

TINY_PHI3 = PROJECT / "bundled/tiny_phi3"
ROWS = [
    conversation("What is the capital of France?", answer="The capital of France is Paris."),
    conversation("Of France?", "Paris.", "And of Italy?", answer="It may be Rome."),
]


def test_only_the_template_writes_the_bos_token(tmp_path: Path) -> None:
    """Llama's tokenizer adds a BOS token, and so does its chat template."""
    folder = tmp_path / "llama"
    shutil.copytree(TINY_PHI3, folder)
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    config |= {"add_bos_token": True, "chat_template": "{{bos_token}}" + config["chat_template"]}
    file.write_text(json.dumps(config))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    seen: list[int] = []

    def uniform(ids: Any) -> Any:
        seen.extend(ids[0].tolist())
        return SimpleNamespace(logits=torch.zeros(*ids.shape, 1024))

    uniform.device = "cpu"  # type: ignore[attr-defined]
    pipeline = SimpleNamespace(tokenizer=tokenizer, model=uniform)
    score = find_scorer(_wrap(pipeline))
    assert score is not None
    logprob, tokens = score([{"role": "user", "content": "Hi"}], "Paris.")
    assert seen.count(tokenizer.bos_token_id) == 1
    assert seen[-tokens:] == tokenizer.encode("Paris.", add_special_tokens=False)
    assert logprob == pytest.approx(-tokens * math.log(1024))


def test_transformers_flavor_scores_like_its_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    mlflow.transformers.save_model(
        str(TINY_PHI3),
        tmp_path / "model",
        task="llm/v1/chat",
        pip_requirements=["transformers"],
        model_config={"max_new_tokens": 4, "do_sample": False},
    )
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    assert 1 <= (request_completion(model, ROWS[0].messages).completion_tokens or 0) <= 4
    assert request_completion(model, ROWS[0].messages, max_tokens=1).completion_tokens == 1
    score = find_scorer(model)
    assert score is not None
    scores = [score(row.messages, row.answer) for row in ROWS]
    logprobs, tokens = zip(*scores, strict=True)
    assert logprobs == pytest.approx(_independent_logprobs(ROWS), rel=1e-4)
    assert min(tokens) > 1


def _independent_logprobs(rows: list[Row]) -> list[float]:
    """Return the log-probabilities from transformers' mean loss over the answer tokens."""
    tokenizer = AutoTokenizer.from_pretrained(TINY_PHI3)
    model: Any = AutoModelForCausalLM.from_pretrained(TINY_PHI3)
    logprobs = []
    for row in rows:
        prompt = tokenizer.apply_chat_template(
            row.messages, add_generation_prompt=True, return_dict=False
        )
        answer = tokenizer.encode(row.answer, add_special_tokens=False)
        labels = torch.tensor([[-100] * len(prompt) + answer])
        with torch.no_grad():
            mean = model(torch.tensor([prompt + answer]), labels=labels).loss
        logprobs.append(-float(mean) * len(answer))
    return logprobs


def _wrap(pipeline: Any) -> Any:
    """Return a stand-in for a loaded MLflow model of the transformers flavor."""
    signature = ModelSignature(CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA)
    metadata = Model(flavors={"transformers": {}}, signature=signature)
    return SimpleNamespace(metadata=metadata, get_raw_model=lambda: pipeline)
