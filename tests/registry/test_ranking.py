"""The ranking of flavors."""

from typing import Any

import pytest

from slmflow.config.schema.registry import Flavor
from slmflow.metrics.model_metrics import METRIC_COLUMNS, ModelMetrics
from slmflow.registry.ranking import best_model, outranks, select_flavor


def _model(flavor: str, **metrics: Any) -> ModelMetrics:
    unmeasured = dict.fromkeys(METRIC_COLUMNS)
    fields = {"flavor": flavor, "target": "cpu_int4", "exporter": "optimum"}
    uri = f"models:/{flavor}"
    return ModelMetrics(**(unmeasured | fields | {"model_uri": uri, "n": 3} | metrics))


EXACT = _model("transformers", exact_match=0.98, token_f1=0.9, latency_ms_p50=50.0)
INEXACT = _model("genai", exact_match=0.97, token_f1=0.99, latency_ms_p50=5.0)
SLOW = _model("transformers", exact_match=0.98, token_f1=0.99, latency_ms_p50=50.0)
FAST = _model("genai", exact_match=0.98, token_f1=0.99, latency_ms_p50=5.0)
ACCURATE = _model("transformers", accuracy=0.6, exact_match=0.0)
INACCURATE = _model("genai", accuracy=0.5, exact_match=1.0)
NOISY = _model("transformers", token_f1=11 / 42 + 6e-17, latency_ms_p50=50.0)
NOISELESS = _model("genai", token_f1=11 / 42, latency_ms_p50=5.0)
UNTIMED_LARGE = _model("transformers", exact_match=0.98, model_size_mb=7.6)
UNTIMED_SMALL = _model("genai", exact_match=0.98, model_size_mb=2.0)
UNMEASURED = _model("transformers", exact_match=None)
BAD = _model("genai", exact_match=0.0)


@pytest.mark.parametrize(
    ("models", "best", "reason"),
    [
        ([INEXACT, EXACT], EXACT, "exact_match 0.98 against 0.97 of genai"),
        ([INACCURATE, ACCURATE], ACCURATE, "accuracy 0.6 against 0.5 of genai"),
        ([SLOW, FAST], FAST, "latency_ms_p50 5 against 50 of transformers"),
        ([NOISY, NOISELESS], NOISELESS, "latency_ms_p50 5 against 50 of transformers"),
        (
            [UNTIMED_LARGE, UNTIMED_SMALL],
            UNTIMED_SMALL,
            "model_size_mb 2 against 7.6 of transformers",
        ),
        ([UNMEASURED, BAD], BAD, "exact_match 0 against not measured of transformers"),
        ([BAD], BAD, "no other flavor is better"),
    ],
)
def test_most_important_metric_that_differs_decides(
    models: list[ModelMetrics], best: ModelMetrics, reason: str
) -> None:
    assert best_model(models) == (best, reason)


def test_single_model_is_selected_without_ranking() -> None:
    assert select_flavor([BAD], None) == (BAD, "the only evaluated flavor")
    assert select_flavor([BAD], Flavor.genai) == (BAD, "registry.flavor=genai")


def test_outranks_is_strict() -> None:
    slow, fast = SLOW.measured(), FAST.measured()

    assert outranks(fast, slow)
    assert not outranks(slow, fast)
    assert not outranks(fast, fast)
    assert outranks(slow, {})
