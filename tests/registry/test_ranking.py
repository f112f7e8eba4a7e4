"""The ranking of flavors."""

from typing import Any

from slmflow.metrics.model_metrics import METRIC_COLUMNS, ModelMetrics
from slmflow.registry.ranking import best_model, outranks


def _model(flavor: str, **metrics: Any) -> ModelMetrics:
    unmeasured = dict.fromkeys(METRIC_COLUMNS)
    fields = {"flavor": flavor, "target": "cpu_int4", "exporter": "optimum"}
    uri = f"models:/{flavor}"
    return ModelMetrics(**(unmeasured | fields | {"model_uri": uri, "n": 3} | metrics))


SLOW = _model("transformers", exact_match=0.98, token_f1=0.99, latency_ms_p50=50.0)
FAST = _model("genai", exact_match=0.98, token_f1=0.99, latency_ms_p50=5.0)


def test_exact_match_outranks_latency() -> None:
    exact = _model("transformers", exact_match=0.98, token_f1=0.9, latency_ms_p50=50.0)
    fast = _model("genai", exact_match=0.97, token_f1=0.99, latency_ms_p50=5.0)

    assert best_model([fast, exact]) == (exact, "exact_match 0.98 against 0.97 of genai")


def test_accuracy_outranks_exact_match() -> None:
    accurate = _model("transformers", accuracy=0.6, exact_match=0.0)
    exact = _model("genai", accuracy=0.5, exact_match=1.0)

    assert best_model([exact, accurate]) == (accurate, "accuracy 0.6 against 0.5 of genai")


def test_latency_decides_between_equals() -> None:
    best, reason = best_model([SLOW, FAST])

    assert best is FAST
    assert reason == "latency_ms_p50 5 against 50 of transformers"


def test_unmeasured_metric_loses() -> None:
    unmeasured = _model("transformers", exact_match=None)
    bad = _model("genai", exact_match=0.0)

    expected = "exact_match 0 against not measured of transformers"
    assert best_model([unmeasured, bad]) == (bad, expected)
    assert best_model([bad]) == (bad, "no other flavor is better")


def test_outranks_is_strict() -> None:
    slow, fast = SLOW.measured(), FAST.measured()

    assert outranks(fast, slow)
    assert not outranks(slow, fast)
    assert not outranks(fast, fast)
    assert outranks(slow, {})
