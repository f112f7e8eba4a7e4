"""Medians and ratios of the speed report."""

import json

import pytest

from benchmarks.harness.timings import EngineTimings, median_of_ratios, ratio_of_medians
from benchmarks.reports.speed_report import Report


def _timings(engine: str, prefill_s: tuple[float, ...], peak: int | None) -> EngineTimings:
    return EngineTimings(
        engine=engine,
        description=f"{engine} 1.0",
        prompt_tokens=100,
        new_tokens=10,
        prefill_s=prefill_s,
        decode_s=tuple(0.5 for _ in prefill_s),
        peak_rss_bytes=peak,
        idle_cpu_share=0.0,
    )


BUILDER = _timings("builder", (1.0, 2.0, 4.0), 100_000_000)
SLMFLOW = _timings("slmflow", (1.0, 1.0, 0.5), 80_000_000)
TARGETS = {"slmflow": "cpu_int4", "builder": "cpu_int4_rtn"}
REPORT = Report("tiny", TARGETS, [SLMFLOW, BUILDER], {"llama_cpp": "not installed"})


def test_ratio_of_medians_differs_from_median_of_ratios() -> None:
    values, baseline = (100.0, 100.0, 400.0), (200.0, 50.0, 100.0)

    assert ratio_of_medians(values, baseline) == 1.0
    assert median_of_ratios(values, baseline) == 2.0
    assert ratio_of_medians((), baseline) is None
    assert median_of_ratios(values, ()) is None


def test_table_shows_medians_and_ratios_to_builder() -> None:
    assert list(REPORT.rows()) == [
        ["prefill, tokens/s (prompt 100)", "100 (2.00)", "50 (1.00)"],
        ["decode, tokens/s (prompt 100)", "20 (1.00)", "20 (1.00)"],
        ["peak memory, MB (prompt 100)", "80 (0.80)", "100 (1.00)"],
    ]


def test_unmeasured_metric_is_a_dash() -> None:
    alone = Report("tiny", TARGETS, [_timings("slmflow", (1.0,), None)], {})

    assert [row[1] for row in alone.rows()] == ["100", "20", "-"]


def test_markdown_names_targets_and_left_out_engines() -> None:
    text = REPORT.markdown()

    assert "| figure | slmflow | builder |" in text
    assert "- slmflow: slmflow 1.0, target=cpu_int4\n" in text
    assert "- builder: builder 1.0, target=cpu_int4_rtn\n" in text
    assert "- llama_cpp is left out: not installed" in text


def test_json_has_raw_values_and_both_ratios() -> None:
    fields = json.loads(REPORT.json())

    slmflow = fields["series"][0]
    assert slmflow["prefill_s"] == [1.0, 1.0, 0.5]
    figures = slmflow["figures"]["prefill, tokens/s"]
    assert figures["median"] == pytest.approx(100)
    assert figures["ratio of medians to builder"] == pytest.approx(2)
    assert figures["median of ratios to builder"] == pytest.approx(2)
    assert fields["targets"] == TARGETS
    assert fields["left_out"] == {"llama_cpp": "not installed"}
