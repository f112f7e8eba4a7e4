import dataclasses

import pytest

from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Measurement, Timing
from slmflow.metrics.performance import Performance, compute_performance

# 20 tokens in 0.1 s, and 10 tokens after the first in 1 s.
TIMING = Timing(0, latency_s=1.1, first_token_s=0.1, prompt_tokens=20, completion_tokens=11)


def measure(*timings: Timing, peak: int | None = 2_000_000) -> Performance:
    model = MeasuredModel("genai", "models:/m-1", "m-1", 5_000_000)
    return compute_performance(Measurement(model, 0.5, peak, (), None, timings=timings))


def test_values_have_the_units_of_their_names() -> None:
    assert measure(TIMING).values == pytest.approx(
        {
            "timed_rows": 1,
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
    answers = [dataclasses.replace(TIMING, latency_s=seconds) for seconds in (0.0, 0.01)]
    values = measure(*answers).values
    named = [values[f"latency_ms_{name}"] for name in ("p50", "p95", "p99")]
    assert named == pytest.approx([5, 9.5, 9.9])


def test_rates_are_ratios_of_sums_over_the_timed_rows() -> None:
    """On a busy machine, an answer can take less time than its first token."""
    early = dataclasses.replace(TIMING, latency_s=0.05)
    late = dataclasses.replace(TIMING, latency_s=2.15)
    assert measure(early, late).values["decode_tokens_per_s"] == pytest.approx(10)


def test_noisy_rate_has_no_interval() -> None:
    """Some resamples of these rows have negative seconds after the first token."""
    early = dataclasses.replace(TIMING, latency_s=0.05)
    performance = measure(early, dataclasses.replace(TIMING, latency_s=0.2), early, TIMING)
    assert performance.values["decode_tokens_per_s"] == pytest.approx(40)
    assert "decode_tokens_per_s" not in performance.intervals


def test_unreported_values_are_left_out() -> None:
    silent = Timing(0, 1.1, first_token_s=None, prompt_tokens=None, completion_tokens=None)
    first = ["ttft_ms_p50", "prefill_tokens_per_s", "decode_tokens_per_s"]
    only = measure(silent, peak=None).values
    assert [only[name] for name in (*first, "peak_rss_mb")] == [None] * 4
    assert only["latency_ms_p50"] == pytest.approx(1100)
    both, complete = measure(silent, TIMING).values, measure(TIMING).values
    assert [both[name] for name in first] == [complete[name] for name in first]


def test_single_token_answers_have_no_decode_rate() -> None:
    short = dataclasses.replace(TIMING, completion_tokens=1, latency_s=0.1)
    assert measure(short).values["decode_tokens_per_s"] is None


def test_intervals_contain_the_value() -> None:
    answers = [
        dataclasses.replace(TIMING, latency_s=1 + i % 7 / 10, first_token_s=0.1 + i % 5 / 100)
        for i in range(40)
    ]
    performance = measure(*answers)
    assert set(performance.intervals) == {
        *("ttft_ms_p50", "latency_ms_p50", "prefill_tokens_per_s", "decode_tokens_per_s")
    }
    for name, (low, high) in performance.intervals.items():
        assert low < (performance.values[name] or 0) < high
    assert measure(TIMING, TIMING).intervals == {}
