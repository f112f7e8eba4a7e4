"""Batches of every architecture compared with transformers' `generate` of one prompt."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from slmflow.measurement.answers.batched_generation import BatchedGenerator
from tests.conversion import architectures
from tests.conversion.architectures import FUSED, UNFUSED, WINDOW, save_random_model

NEW_TOKENS = 12
LENGTHS = (1, 4, 9, 9, WINDOW - 2, WINDOW + 5, 2 * WINDOW, 2 * WINDOW)
# LongRoPE changes beyond 128 tokens.
LONG_LENGTHS = (*LENGTHS, 120, 126, 126, 140)

# Random weights, whose greedy tokens do not end: every fifth token of the vocabulary ends a row.
END_TOKENS = list(range(5, 1013, 5))

SAMPLE = ("phi3", "phi3_longrope", "gemma3", "mistral", "llama_dynamic")


def check(name: str, folder: Path, shared: int) -> None:
    """Compare batches with single prompts, which begin with some shared tokens."""
    save_random_model({**FUSED, **UNFUSED}[name], folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    start = architectures.prompt(shared, seed=1) if shared else []
    prompts = {
        number: start + architectures.prompt(length, seed=number)
        for number, length in enumerate(LONG_LENGTHS)
    }
    arguments: dict[str, Any] = {"do_sample": False, "max_new_tokens": NEW_TOKENS}
    arguments |= {"eos_token_id": END_TOKENS, "repetition_penalty": 1.2}
    generator = BatchedGenerator(model, model.generate, arguments)
    alone = dict(
        next(generator._generate_alone(number, prompt)) for number, prompt in prompts.items()
    )
    assert len({len(ids) for ids in alone.values()}) > 1
    assert dict(generator.generate(prompts)) == alone


@pytest.mark.parametrize("shared", [0, 6])
@pytest.mark.parametrize("name", SAMPLE)
def test_padded_rows_get_the_tokens_of_single_ones(name: str, shared: int, tmp_path: Path) -> None:
    check(name, tmp_path / name, shared)


@pytest.mark.long
@pytest.mark.parametrize("shared", [0, 6])
@pytest.mark.parametrize("name", sorted({**FUSED, **UNFUSED}.keys() - set(SAMPLE)))
def test_all_architectures_can_be_batched(name: str, shared: int, tmp_path: Path) -> None:
    check(name, tmp_path / name, shared)
