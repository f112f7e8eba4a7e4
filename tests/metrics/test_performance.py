import dataclasses

import pytest

from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, Measurement
from slmflow.metrics.performance import compute_performance

# 20 tokens in 0.1 s, and 10 tokens after the first in 1 s.
ANSWER = Answer("text", latency_s=1.1, first_token_s=0.1, prompt_tokens=20, completion_tokens=11)


def measured(*answers: Answer, peak: int | None = 2_000_000) -> Measurement:
    return Measurement(
        model=MeasuredModel("genai", "models:/m-1", "m-1", 5_000_000),
        load_s=0.5,
        peak_rss_bytes=peak,
        answers=answers,
        likelihoods=None,
    )


def test_figures_have_the_units_of_their_names() -> None:
    figures = compute_performance(measured(ANSWER)).figures
    assert figures == pytest.approx(
        {
            "ttft_ms_p50": 100,
            "latency_ms_p50": 1100,
            "latency_ms_p95": 1100,
            "latency_ms_p99": 1100,
            "prefill_tokens_per_s": 200,
            "decode_tokens_per_s": 10,
            "load_s": 0.5,
            "peak_rss_mb": 2,
            "model_size_mb": 5,
        }
    )


def test_percentiles_are_linear() -> None:
    answers = [dataclasses.replace(ANSWER, latency_s=seconds) for seconds in (0.0, 0.01)]
    figures = compute_performance(measured(*answers)).figures
    named = [figures[f"latency_ms_{name}"] for name in ("p50", "p95", "p99")]
    assert named == pytest.approx([5, 9.5, 9.9])


def test_rates_are_of_all_rows_so_that_noise_cancels() -> None:
    """An answer can take less time than its first token alone took, on a busy machine."""
    early = dataclasses.replace(ANSWER, latency_s=0.05)
    late = dataclasses.replace(ANSWER, latency_s=2.15)
    assert compute_performance(measured(early, late)).figures["decode_tokens_per_s"] == pytest.approx(10)


def test_a_rate_that_is_all_noise_has_no_interval() -> None:
    """Of some resamples of these rows the seconds after the first token are below 0."""
    early = dataclasses.replace(ANSWER, latency_s=0.05)
    found = compute_performance(measured(early, dataclasses.replace(ANSWER, latency_s=0.2), early, ANSWER))
    assert found.figures["decode_tokens_per_s"] == pytest.approx(40)
    assert "decode_tokens_per_s" not in found.intervals


def test_what_was_not_told_is_left_out() -> None:
    silent = Answer("text", 1.1, first_token_s=None, prompt_tokens=None, completion_tokens=None)
    first = ["ttft_ms_p50", "prefill_tokens_per_s", "decode_tokens_per_s"]
    only = compute_performance(measured(silent, peak=None)).figures
    assert [only[name] for name in (*first, "peak_rss_mb")] == [None] * 4
    assert only["latency_ms_p50"] == pytest.approx(1100)
    both, told = (compute_performance(measured(*a)).figures for a in ((silent, ANSWER), (ANSWER,)))
    assert [both[name] for name in first] == [told[name] for name in first]


def test_answers_of_one_token_tell_no_decode_rate() -> None:
    short = dataclasses.replace(ANSWER, completion_tokens=1, latency_s=0.1)
    assert compute_performance(measured(short)).figures["decode_tokens_per_s"] is None


def test_intervals_hold_the_figure() -> None:
    answers = [
        dataclasses.replace(ANSWER, latency_s=1 + i % 7 / 10, first_token_s=0.1 + i % 5 / 100)
        for i in range(40)
    ]
    found = compute_performance(measured(*answers))
    assert set(found.intervals) == {
        *("ttft_ms_p50", "latency_ms_p50", "prefill_tokens_per_s", "decode_tokens_per_s")
    }
    for name, (low, high) in found.intervals.items():
        assert low < (found.figures[name] or 0) < high
    assert compute_performance(measured(ANSWER, ANSWER)).intervals == {}
