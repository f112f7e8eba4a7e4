"""The choice of a token, against transformers' own logits processors on the same logits."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from slmflow.runtime.generation.options import Options
from slmflow.runtime.generation.sampling import Sampler, likely

PROMPT = [3, 5, 5, 8]


def options(**given: Any) -> Options:
    return Options.of(given, {"max_tokens": 8, "temperature": 1.0, "top_p": 1.0})


def logits(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, 50).astype(np.float32)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [0, 1, 7, 99])
@pytest.mark.parametrize("top_p", [1e-6, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("repetition_penalty", [1.0, 1.3])
def test_probabilities_are_those_of_transformers(
    temperature: float, top_k: int, top_p: float, repetition_penalty: float
) -> None:
    warpers: list[Any] = [TemperatureLogitsWarper(temperature)]
    if repetition_penalty != 1:
        warpers.insert(0, RepetitionPenaltyLogitsProcessor(repetition_penalty))
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    asked = options(
        temperature=temperature, top_k=top_k, top_p=top_p, repetition_penalty=repetition_penalty
    )
    for seed in range(5):
        given = logits(seed)
        warped = LogitsProcessorList(warpers)(torch.tensor([PROMPT]), torch.tensor(given)[None])
        tokens, probabilities = likely(Sampler(asked, PROMPT).penalized(given), asked)
        ours = np.zeros(len(given))
        ours[tokens] = probabilities
        np.testing.assert_allclose(ours, warped[0].double().softmax(-1).numpy(), atol=1e-6)


def test_penalties_are_taken_off_what_was_said() -> None:
    sampler = Sampler(options(presence_penalty=0.5, frequency_penalty=0.25), PROMPT)
    for token in (7, 7, 9):
        sampler.said(token)
    given = logits(0)
    off = np.zeros(len(given), dtype=np.float32)
    off[7], off[9] = 0.5 + 2 * 0.25, 0.5 + 0.25
    np.testing.assert_allclose(sampler.penalized(given), given - off)


def test_a_seed_chooses_the_same_tokens_and_another_others() -> None:
    def chosen(seed: int | None) -> list[int]:
        sampler = Sampler(options() if seed is None else options(seed=seed), PROMPT)
        return [sampler.choose(logits(number)) for number in range(40)]

    assert chosen(1) == chosen(1)
    assert len({tuple(chosen(seed)) for seed in (1, 2, 3)}) == 3
    assert chosen(None) != chosen(None)


def test_tokens_are_as_frequent_as_they_are_likely() -> None:
    asked = options(seed=0, top_k=3)
    sampler, given = Sampler(asked, PROMPT), logits(1)
    tokens, probabilities = likely(given, asked)
    times = np.bincount([sampler.choose(given) for _ in range(4000)], minlength=len(given))
    assert times.sum() == times[tokens].sum()
    np.testing.assert_allclose(times[tokens] / 4000, probabilities, atol=0.03)


@pytest.mark.parametrize("given", [{"temperature": 0}, {"top_k": 1}])
def test_greedy_is_the_most_likely_token(given: dict[str, Any]) -> None:
    sampler = Sampler(options(**given), PROMPT)
    assert sampler.choose(logits(4)) == logits(4).argmax()
