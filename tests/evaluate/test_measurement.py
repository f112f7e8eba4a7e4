import dataclasses

import pytest

from steps.evaluate.measurement import Answer, percentile, scaled

ANSWER = Answer("text", latency_s=1.1, first_token_s=0.1, prompt_tokens=20, completion_tokens=11)


def test_rates() -> None:
    assert ANSWER.prefill_tokens_per_s == pytest.approx(200)  # 20 tokens in 0.1 s
    assert ANSWER.decode_tokens_per_s == pytest.approx(10)  # 10 tokens after the first, in 1 s


@pytest.mark.parametrize(
    "change",
    [
        {"completion_tokens": 1},
        {"completion_tokens": None},
        {"first_token_s": None},
        {"first_token_s": 1.2},
    ],
)
def test_no_decode_rate(change: dict[str, float | None]) -> None:
    assert dataclasses.replace(ANSWER, **change).decode_tokens_per_s is None


@pytest.mark.parametrize("unknown", ["first_token_s", "prompt_tokens"])
def test_no_prefill_rate(unknown: str) -> None:
    assert dataclasses.replace(ANSWER, **{unknown: None}).prefill_tokens_per_s is None


def test_percentile_is_linear_and_leaves_none_out() -> None:
    assert percentile([4.0, None, 1.0, 2.0, 3.0], 50) == 2.5
    assert percentile([0.0, 10.0], 95) == pytest.approx(9.5)
    assert percentile([None, None], 50) is None


def test_scaled() -> None:
    assert scaled(2, 1e3) == 2000
    assert scaled(0.0, 1e3) == 0
    assert scaled(None, 1e3) is None
