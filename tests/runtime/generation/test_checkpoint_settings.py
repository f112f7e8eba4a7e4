"""Generation settings of a checkpoint, compared with transformers' logits processors."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, PreTrainedConfig
from transformers.generation import GenerationMixin

from slmflow.runtime.generation.checkpoint_settings import SAMPLING, CheckpointSettings
from slmflow.runtime.generation.options import RequestOptions
from slmflow.runtime.generation.sampling import Sampler, candidate_tokens

SIZE = 40
PROMPT = [3, 5, 8, 5, 8, 3, 5]
END_TOKENS = [1, 7]
MAX_TOKENS = 12


class Generator(GenerationMixin):
    """What transformers needs of a model to build its processors."""

    config = PreTrainedConfig(vocab_size=SIZE)


def transformers_scores(
    values: dict[str, Any], generated: list[int], logits: np.ndarray, **options: Any
) -> np.ndarray:
    """Return the logits after all processors and filters that `generate` would apply."""
    config = GenerationConfig(**values)
    defaults = config._get_default_generation_params() | {"top_k": None}
    config.update(**defaults, defaults_only=True)
    config.update(max_length=len(PROMPT) + MAX_TOKENS, **options)
    config._eos_token_tensor = torch.tensor(END_TOKENS)
    processors = Generator()._get_logits_processor(config, len(PROMPT), device="cpu")
    scores = processors(torch.tensor([PROMPT + generated]), torch.tensor(logits)[None])
    return scores[0].numpy()


def our_sampler(values: dict[str, Any], generated: list[int], **options: Any) -> Sampler:
    settings = CheckpointSettings.parse(values, SIZE)
    defaults = {**settings.request_defaults(), "max_tokens": MAX_TOKENS, "top_p": 1.0}
    parsed = RequestOptions.parse({"temperature": 0.0, **options}, defaults)
    sampler = Sampler(parsed, PROMPT, settings, frozenset(END_TOKENS))
    for token in generated:
        sampler.record(token)
    return sampler


def random_logits(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, SIZE).astype(np.float32)


CHANGING_LOGITS = [
    {"repetition_penalty": 2.0},
    *({"no_repeat_ngram_size": size} for size in (1, 2, 3, 5, 50)),
    {"bad_words_ids": [[8], [3, 5, 9], [5, 4], [1]]},
    {"sequence_bias": [[[8], -10.0], [[5, 4], 7.5], [[9, 9, 9, 9, 9, 9, 9, 9, 9, 2], 3.0]]},
    {"min_length": 9},
    {"min_new_tokens": 3},
    {"forced_eos_token_id": 7},
    {"forced_eos_token_id": [1, 7]},
    {"exponential_decay_length_penalty": [2, 1.5]},
    {"suppress_tokens": [0, 2, 4, 6]},
    {"suppress_tokens": []},
    {"begin_suppress_tokens": [10, 11, 12, 13]},
    {
        "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 2,
        "sequence_bias": [[[4], 5.0]],
        "bad_words_ids": [[4, 9]],
        "min_new_tokens": 2,
        "exponential_decay_length_penalty": [3, 1.2],
        "suppress_tokens": [20],
        "begin_suppress_tokens": [21],
    },
]


@pytest.mark.parametrize("values", CHANGING_LOGITS, ids=str)
def test_logits_equal_those_of_transformers(values: dict[str, Any]) -> None:
    generated: list[int] = []
    for step in range(MAX_TOKENS):
        logits = random_logits(step)
        expected = transformers_scores(values, generated, logits)
        np.testing.assert_allclose(
            our_sampler(values, generated).process(logits), expected, rtol=1e-6
        )
        generated.append(int(expected.argmax()))


def test_invalid_logits_are_replaced_as_in_transformers() -> None:
    logits = random_logits(0)
    logits[[4, 5, 6]] = np.nan, np.inf, -np.inf
    values = {"remove_invalid_values": True, "suppress_tokens": [9]}
    expected = transformers_scores(values, [], logits)
    np.testing.assert_array_equal(our_sampler(values, []).process(logits), expected)


SAMPLED = [
    *({"min_p": value} for value in (0.0, 0.05, 0.3, 1.0)),
    *({"typical_p": value} for value in (0.1, 0.5, 0.95, 1.0)),
    *({"epsilon_cutoff": value} for value in (0.0, 0.01, 0.2, 0.9)),
    *({"eta_cutoff": value} for value in (0.0, 0.01, 0.2, 0.9)),
    *({"top_h": value} for value in (0.1, 0.5, 0.9, 1.0)),
    {"top_k": 5, "min_p": 0.1, "typical_p": 0.8, "epsilon_cutoff": 0.02, "eta_cutoff": 0.02},
    {"top_h": 0.7, "top_k": 7, "suppress_tokens": [0, 1, 2, 3, 4, 5, 6, 7, 8]},
    {"typical_p": 0.6, "suppress_tokens": [0, 1, 2, 3, 4, 5, 6, 7, 8]},
]


@pytest.mark.parametrize("temperature", [0.4, 1.0, 1.9])
@pytest.mark.parametrize("values", SAMPLED, ids=str)
def test_probabilities_equal_those_of_transformers(
    values: dict[str, Any], temperature: float
) -> None:
    for seed in range(8):
        logits = random_logits(seed)
        options = {"temperature": temperature, "top_k": values.get("top_k", 0), "top_p": 0.9}
        expected = transformers_scores(values, [], logits, do_sample=True, **options)
        sampler = our_sampler(values, [], **options)
        tokens, probabilities = candidate_tokens(
            sampler.process(logits), sampler._options, sampler._settings
        )
        ours = np.zeros(SIZE)
        ours[tokens] = probabilities
        expected = torch.tensor(expected).double().softmax(-1).numpy()
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_unset_settings_have_transformers_defaults() -> None:
    defaults = GenerationConfig._get_default_generation_params()
    nothing = dict.fromkeys([*SAMPLING, "repetition_penalty", "suppress_tokens"])
    for settings in (CheckpointSettings.parse({}, SIZE), CheckpointSettings.parse(nothing, SIZE)):
        for name in ("top_k", "repetition_penalty", "typical_p", "epsilon_cutoff", "eta_cutoff"):
            assert getattr(settings, name) == defaults[name]
        assert not settings.change_logits


def test_settings_without_effect_in_transformers_have_none() -> None:
    values = {
        "no_repeat_ngram_size": -1,
        "min_new_tokens": 0,
        "min_length": -1,
        "suppress_tokens": [-1, SIZE],
        "epsilon_cutoff": 1.5,
        "eta_cutoff": -1.0,
        "typical_p": 2.0,
        "num_beams": 4,
    }
    settings = CheckpointSettings.parse(values, SIZE)
    assert not settings.change_logits
    logits = random_logits(0)
    np.testing.assert_array_equal(our_sampler(values, []).process(logits), logits)


@pytest.mark.parametrize(
    "values",
    [
        {"repetition_penalty": 0.0},
        {"repetition_penalty": "2.0"},
        {"no_repeat_ngram_size": 2.5},
        {"bad_words_ids": []},
        {"bad_words_ids": [[]]},
        {"bad_words_ids": [5]},
        {"bad_words_ids": [[SIZE]]},
        {"sequence_bias": [[[5], 1]]},
        {"sequence_bias": []},
        {"min_new_tokens": "3"},
        {"suppress_tokens": 5},
        {"suppress_tokens": ["5"]},
        {"forced_eos_token_id": SIZE},
        {"exponential_decay_length_penalty": [1]},
        {"min_p": 1.5},
        {"typical_p": 0.0},
        {"top_h": 0.0},
        {"top_k": 2.5},
        {"epsilon_cutoff": "x"},
        {"remove_invalid_values": "yes"},
    ],
    ids=str,
)
def test_values_that_transformers_rejects_are_named(values: dict[str, Any]) -> None:
    [(name, value)] = values.items()
    with pytest.raises(ValueError) as raised:
        CheckpointSettings.parse(values, SIZE)
    assert str(raised.value).startswith(f"{name}={value!r}: must be ")
