"""Log-probabilities from logits, compared with torch."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models

from slmflow.runtime.generation.logprobs import LogprobReader
from slmflow.runtime.generation.token_texts import TokenTexts

SIZE = 50
TEXTS = TokenTexts(Tokenizer(models.WordLevel({f"w{n}": n for n in range(SIZE)}, unk_token="w0")))  # noqa: S106


@pytest.mark.parametrize("top", [0, 1, 20, SIZE + 1])
@pytest.mark.parametrize("scale", [0.01, 3, 300])
def test_values_equal_those_of_torch(top: int, scale: float) -> None:
    logits = np.random.default_rng(0).normal(0, scale, SIZE).astype(np.float32)
    expected = torch.tensor(logits).double().log_softmax(-1)
    best = expected.topk(min(top, SIZE))
    read = LogprobReader(TEXTS, top).read(7, logits, offset=3)
    assert (read.token, read.text, bytes(read.bytes), read.offset) == (7, " w7", b" w7", 3)
    assert read.logprob == pytest.approx(float(expected[7]), abs=1e-9)
    assert [each.token for each in read.top] == best.indices.tolist()
    assert [each.logprob for each in read.top] == pytest.approx(best.values.tolist(), abs=1e-9)


def test_impossible_token_has_a_finite_value() -> None:
    logits = np.zeros(SIZE, dtype=np.float32)
    logits[7] = -np.inf
    assert LogprobReader(TEXTS, 0).read(7, logits, 0).logprob == -9999


def test_most_likely_token_comes_first_among_equals() -> None:
    read = LogprobReader(TEXTS, 3).read(0, np.zeros(SIZE, dtype=np.float32), 0)
    assert [each.token for each in read.top] == [0, 1, 2]
