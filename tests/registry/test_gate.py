"""The gate's arithmetic, beside MLflow's own where it can say the same."""

import itertools

import mlflow
import pytest
from mlflow.models import EvaluationResult, MetricThreshold
from mlflow.models.evaluation.validation import ModelValidationFailedException

from slmflow.config.schema.registry import Threshold
from slmflow.errors import UserError
from slmflow.metrics.figures import more_is_better
from slmflow.registry.gate import Baseline, hold, unmet
from tests.metrics.figures import GENAI, TRANSFORMERS

VALUES = (0.0, 0.1, 0.7, 0.954, 0.974, 1.0, 33.3, 1653.0)


def _passes(threshold: Threshold, metric: str, figure: float, *before: float) -> bool:
    baselines = [Baseline("genai", {metric: value}) for value in before]
    return not list(unmet({metric: threshold}, {metric: figure}, baselines))


def _mlflow_passes(limit: float, metric: str, figure: float, *, more: bool) -> bool:
    threshold = MetricThreshold(threshold=limit, greater_is_better=more)
    try:
        mlflow.validate_evaluation_results(
            {metric: threshold}, EvaluationResult({metric: figure}, {})
        )
    except ModelValidationFailedException:
        return False
    return True


@pytest.mark.parametrize("metric", ["exact_match", "latency_ms_p95"])
def test_limits_are_those_of_mlflow(metric: str) -> None:
    more = more_is_better(metric)
    for figure, limit in itertools.product(VALUES, VALUES):
        assert _passes(Threshold(min=limit), metric, figure) == _mlflow_passes(
            limit, metric, figure, more=True
        )
        assert _passes(Threshold(max=limit), metric, figure) == _mlflow_passes(
            limit, metric, figure, more=False
        )
        for drop in (0.0, 0.25, 4.0):
            worst = limit - drop if more else limit + drop
            assert _passes(Threshold(max_drop=drop), metric, figure, limit) == _mlflow_passes(
                worst, metric, figure, more=more
            )


def test_mlflow_has_no_drop() -> None:
    """The reason for a gate of our own: once this fails, think again."""
    with pytest.raises(Exception, match="must be a positive number"):
        MetricThreshold(min_absolute_change=-0.02, greater_is_better=True)


def test_a_figure_on_its_limit_passes_whatever_rounding_does() -> None:
    assert 0.3 - 0.1 > 0.2 - 1e-16 and 1.1 - 0.2 > 0.9
    assert _passes(Threshold(max_drop=0.2), "exact_match", 0.9, 1.1)
    assert _passes(Threshold(max_drop=0.2), "latency_ms_p50", 0.1 + 0.2, 0.1)
    assert not _passes(Threshold(max_drop=0.2), "exact_match", 0.899999, 1.1)


def test_what_was_not_measured_meets_nothing() -> None:
    gate = {"perplexity": Threshold(min=1.0, max=2.0, max_drop=0.5)}
    reference = Baseline("transformers", {"perplexity": 1.2})

    assert list(unmet(gate, {}, [reference])) == [
        "perplexity was not measured: registry.gate.perplexity.min=1",
        "perplexity was not measured: registry.gate.perplexity.max=2",
        "perplexity was not measured: registry.gate.perplexity.max_drop=0.5",
    ]
    assert list(unmet(gate, {"perplexity": 1.2}, [Baseline("transformers", {})])) == [
        "perplexity is 1.2: not measured for transformers, so "
        "registry.gate.perplexity.max_drop=0.5 is not met"
    ]
    assert list(unmet({"perplexity": Threshold()}, {}, [reference])) == []


def test_not_a_number_meets_nothing() -> None:
    nan = float("nan")
    for threshold in (Threshold(min=0.0), Threshold(max=1.0), Threshold(max_drop=1.0)):
        assert not _passes(threshold, "exact_match", nan, 0.5)
    assert not _passes(Threshold(max_drop=1.0), "exact_match", 0.5, nan)


def test_the_reference_agrees_with_itself() -> None:
    gate = {"agreement": Threshold(min=0.97, max_drop=0.03)}

    hold(gate, TRANSFORMERS, "more exact", [TRANSFORMERS, GENAI], None)
    with pytest.raises(UserError) as refusal:
        hold(gate, GENAI, "faster", [TRANSFORMERS, GENAI], None)
    assert str(refusal.value).splitlines()[1:] == [
        "agreement is 0.969: below registry.gate.agreement.min=0.97",
        "agreement is 0.969: worse by 0.031 than 1 of transformers, and "
        "registry.gate.agreement.max_drop=0.03",
        "transformers would pass, but is not the better flavor; it can be registered by hand: "
        "models:/m-1",
    ]


def test_bounds_p_values_and_metrics_of_ones_own_can_be_held_to_a_limit() -> None:
    gate = {
        "exact_match_low": Threshold(min=0.95),
        "token_f1_p": Threshold(min=0.05),
        "politeness": Threshold(max_drop=1.0),
    }

    with pytest.raises(UserError) as refusal:
        hold(gate, GENAI, "faster", [TRANSFORMERS, GENAI], None)

    assert str(refusal.value).splitlines()[1:] == [
        "exact_match_low is 0.9385: below registry.gate.exact_match_low.min=0.95",
        "token_f1_p is 0.0312: below registry.gate.token_f1_p.min=0.05",
        "politeness is 0.5: worse by 2.75 than 3.25 of transformers, and "
        "registry.gate.politeness.max_drop=1",
    ]


def test_a_bound_is_better_where_its_figure_is() -> None:
    columns = ["exact_match_low", "perplexity", "latency_ms_p95", "token_f1_p", "politeness"]
    assert [more_is_better(column) for column in columns] == [True, False, False, True, True]
