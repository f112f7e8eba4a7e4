"""Sampling, compared with transformers' logits processors on the same logits."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from slmflow.runtime.generation.checkpoint_settings import CheckpointSettings
from slmflow.runtime.generation.options import RequestOptions
from slmflow.runtime.generation.sampling import Sampler, candidate_tokens

PROMPT = [3, 5, 5, 8]


def options(**values: Any) -> RequestOptions:
    return RequestOptions.parse(values, {"max_tokens": 8, "temperature": 1.0, "top_p": 1.0})


def logits(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, 50).astype(np.float32)


def check_probabilities(requested: RequestOptions, warpers: list[Any]) -> None:
    """Compare the probabilities of tokens with those of transformers' processors."""
    for seed in range(5):
        raw = logits(seed)
        warped = LogitsProcessorList(warpers)(torch.tensor([PROMPT]), torch.tensor(raw)[None])
        tokens, probabilities = candidate_tokens(Sampler(requested, PROMPT).process(raw), requested)
        ours = np.zeros(len(raw))
        ours[tokens] = probabilities
        np.testing.assert_allclose(ours, warped[0].double().softmax(-1).numpy(), atol=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [0, 1, 7, 99])
@pytest.mark.parametrize("top_p", [1e-6, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("repetition_penalty", [1.0, 1.3])
def test_probabilities_equal_those_of_transformers(
    temperature: float, top_k: int, top_p: float, repetition_penalty: float
) -> None:
    warpers: list[Any] = [TemperatureLogitsWarper(temperature)]
    if repetition_penalty != 1:
        warpers.insert(0, RepetitionPenaltyLogitsProcessor(repetition_penalty))
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    requested = options(
        temperature=temperature, top_k=top_k, top_p=top_p, repetition_penalty=repetition_penalty
    )
    check_probabilities(requested, warpers)


@pytest.mark.parametrize("temperature", [0.3, 2.0])
@pytest.mark.parametrize("min_p", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("logit_bias", [{}, {"0": 3, "49": -100.0, "7": 0.5}])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_min_p_and_biases_equal_those_of_transformers(
    temperature: float, min_p: float, logit_bias: dict[str, float], penalty: float
) -> None:
    warpers: list[Any] = [RepetitionPenaltyLogitsProcessor(penalty)]
    if logit_bias:
        biases = [([int(token)], float(bias)) for token, bias in logit_bias.items()]
        warpers.insert(0, SequenceBiasLogitsProcessor(biases))
    warpers += [TemperatureLogitsWarper(temperature), MinPLogitsWarper(min_p)]
    requested = options(
        temperature=temperature, min_p=min_p, logit_bias=logit_bias, repetition_penalty=penalty
    )
    check_probabilities(requested, warpers)


def test_request_replaces_min_p_of_the_checkpoint() -> None:
    settings, raw = CheckpointSettings(min_p=0.5), logits(0)
    filtered, _ = candidate_tokens(raw, options(), settings)
    unfiltered, _ = candidate_tokens(raw, options(min_p=0.0), settings)
    assert len(filtered) < len(unfiltered) == len(raw)


def test_penalties_apply_to_generated_tokens() -> None:
    sampler = Sampler(options(presence_penalty=0.5, frequency_penalty=0.25), PROMPT)
    for token in (7, 7, 9):
        sampler.record(token)
    raw = logits(0)
    penalties = np.zeros(len(raw), dtype=np.float32)
    penalties[7], penalties[9] = 0.5 + 2 * 0.25, 0.5 + 0.25
    np.testing.assert_allclose(sampler.process(raw), raw - penalties)


def test_seed_determines_tokens() -> None:
    def chosen(seed: int | None) -> list[int]:
        sampler = Sampler(options() if seed is None else options(seed=seed), PROMPT)
        return [sampler.choose(logits(number)) for number in range(40)]

    assert chosen(1) == chosen(1)
    assert len({tuple(chosen(seed)) for seed in (1, 2, 3)}) == 3
    assert chosen(None) != chosen(None)


def test_frequencies_match_probabilities() -> None:
    requested = options(seed=0, top_k=3)
    sampler, raw = Sampler(requested, PROMPT), logits(1)
    tokens, probabilities = candidate_tokens(raw, requested)
    counts = np.bincount([sampler.choose(raw) for _ in range(4000)], minlength=len(raw))
    assert counts.sum() == counts[tokens].sum()
    np.testing.assert_allclose(counts[tokens] / 4000, probabilities, atol=0.03)


@pytest.mark.parametrize("values", [{"temperature": 0}, {"top_k": 1}])
def test_greedy_chooses_most_likely_token(values: dict[str, Any]) -> None:
    sampler = Sampler(options(**values), PROMPT)
    assert sampler.choose(logits(4)) == logits(4).argmax()
