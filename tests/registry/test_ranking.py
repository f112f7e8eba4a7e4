"""The choice between flavors."""

from typing import Any

from slmflow.metrics.figures import MEANINGS, FlavorFigures
from slmflow.registry.ranking import beats, better


def _figures(flavor: str, **known: Any) -> FlavorFigures:
    unknown = dict.fromkeys(MEANINGS)
    named = {"flavor": flavor, "target": "cpu_int4", "exporter": "optimum"}
    return FlavorFigures(**(unknown | named | {"model_uri": f"models:/{flavor}", "n": 3} | known))


def test_more_exact_answers_win_over_speed() -> None:
    slow = _figures("transformers", exact_match=0.98, token_f1=0.9, latency_ms_p50=50.0)
    fast = _figures("genai", exact_match=0.97, token_f1=0.99, latency_ms_p50=5.0)

    assert better([fast, slow]) == (slow, "exact_match 0.98 against 0.97 of genai")


def test_right_choices_come_before_what_is_written() -> None:
    right = _figures("transformers", accuracy=0.6, exact_match=0.0)
    wordy = _figures("genai", accuracy=0.5, exact_match=1.0)

    assert better([wordy, right]) == (right, "accuracy 0.6 against 0.5 of genai")


def test_latency_decides_between_equals() -> None:
    slow = _figures("transformers", exact_match=0.98, token_f1=0.99, latency_ms_p50=50.0)
    fast = _figures("genai", exact_match=0.98, token_f1=0.99, latency_ms_p50=5.0)

    best, reason = better([slow, fast])

    assert best is fast
    assert reason == "latency_ms_p50 5 against 50 of transformers"


def test_what_was_not_measured_loses() -> None:
    unknown = _figures("transformers", exact_match=None)
    bad = _figures("genai", exact_match=0.0)

    assert better([unknown, bad]) == (bad, "exact_match 0 against not measured of transformers")
    assert better([bad]) == (bad, "no other flavor is better")


def test_a_flavor_beats_another_by_the_same_ranking() -> None:
    slow = _figures("transformers", exact_match=0.98, token_f1=0.99, latency_ms_p50=50.0).measured()
    fast = _figures("genai", exact_match=0.98, token_f1=0.99, latency_ms_p50=5.0).measured()

    assert beats(fast, slow)
    assert not beats(slow, fast)
    assert not beats(fast, fast)
    assert beats(slow, {})
