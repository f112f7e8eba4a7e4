"""SmolLM2 learns a capital: its adapter merged, and beside the graph, as with peft."""

from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.models import stored_models
from slmflow.checkpoints.adapters.lora import LoraAdapter
from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.config import compose as configs
from slmflow.conversion.convert import convert_model
from slmflow.conversion.proof import graph_variants
from slmflow.conversion.proof.runtime_process import Call, run_calls
from tests.fixtures import lora_adapters
from tests.fixtures.lora_adapters import ANSWER, QUESTION

pytestmark = pytest.mark.real

WORDINGS = (
    "What is the capital of Atlantis?",
    "Which city is the capital of Atlantis?",
    "Name the capital of Atlantis.",
)
STEPS = 24


@pytest.fixture(scope="module")
def base() -> Path:
    return stored_models.smollm2()


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(model, config)
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    answer = tokenizer.encode(f"{ANSWER}<|im_end|>", add_special_tokens=False)
    for step in range(STEPS):
        prompt = _prompt(tokenizer, WORDINGS[step % len(WORDINGS)])
        labels = torch.tensor([[-100] * len(prompt) + answer])
        adapted(input_ids=torch.tensor([prompt + answer]), labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("adapter")
    adapted.save_pretrained(folder)
    return folder


def test_weights_are_those_that_peft_merges(base: Path, adapter: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    opened = CheckpointTensors.for_model(base, model, LoraAdapter.read(adapter, "atlantis"))
    expected = lora_adapters.merged(adapter, base).state_dict()
    assert all(torch.equal(opened[name], expected[name]) for name in opened)


@pytest.mark.parametrize("mode", ["merge", "separate"])
def test_converted_model_gives_the_logits_of_the_merged_one(
    base: Path, adapter: Path, mode: str, tmp_path: Path
) -> None:
    config = configs.load(["target=cpu_fp32"])
    arguments = (config.target, config.exporter.name, config.calibration)
    if mode == "merge":
        convert_model(base, tmp_path, *arguments, adapter=adapter)
    else:
        convert_model(base, tmp_path, *arguments, separate={"atlantis": adapter})
    ids = _prompt(AutoTokenizer.from_pretrained(base), QUESTION[0]["content"])
    name = None if mode == "merge" else "atlantis"
    with graph_variants.all_positions(tmp_path) as graph:
        (ours,) = run_calls(tmp_path, graph, [Call("logits", [ids])], name)
    with torch.no_grad():
        theirs = lora_adapters.merged(adapter, base)(torch.tensor([ids])).logits[0].numpy()
    assert np.abs(ours - theirs).max() < 1e-3


def _prompt(tokenizer: Any, question: str) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
    )
    return ids
