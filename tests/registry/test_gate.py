"""The gate's arithmetic, compared with MLflow's own where both apply."""

import dataclasses
import itertools

import mlflow
import numpy as np
import pytest
from mlflow.models import EvaluationResult, MetricThreshold
from mlflow.models.evaluation.validation import ModelValidationFailedException

from slmflow.config.schema.registry import Threshold
from slmflow.errors import UserError
from slmflow.metrics.model_metrics import ModelMetrics, is_higher_better
from slmflow.metrics.uncertainty import Array, mean, paired_difference
from slmflow.registry.gate import Baseline, enforce, find_violations
from tests.metrics.samples import GENAI, TRANSFORMERS

VALUES = (0.0, 0.1, 0.7, 0.954, 0.974, 1.0, 33.3, 1653.0)


def _passes(threshold: Threshold, metric: str, value: float, *before: float) -> bool:
    baselines = [Baseline("genai", {metric: baseline}) for baseline in before]
    return not list(find_violations({metric: threshold}, {metric: value}, baselines))


def _mlflow_passes(limit: float, metric: str, value: float, *, higher_better: bool) -> bool:
    threshold = MetricThreshold(threshold=limit, greater_is_better=higher_better)
    try:
        mlflow.validate_evaluation_results(
            {metric: threshold}, EvaluationResult({metric: value}, {})
        )
    except ModelValidationFailedException:
        return False
    return True


@pytest.mark.parametrize("metric", ["exact_match", "latency_ms_p95"])
def test_gate_agrees_with_mlflow(metric: str) -> None:
    higher_better = is_higher_better(metric)
    for value, limit in itertools.product(VALUES, VALUES):
        equivalents = [(Threshold(min=limit), limit, True), (Threshold(max=limit), limit, False)]
        for drop in (0.0, 0.25, 4.0):
            worst = limit - drop if higher_better else limit + drop
            equivalents.append((Threshold(max_drop=drop), worst, higher_better))
        for threshold, bound, higher in equivalents:
            expected = _mlflow_passes(bound, metric, value, higher_better=higher)
            assert _passes(threshold, metric, value, limit) == expected


def test_mlflow_allows_no_drop() -> None:
    """If this fails, MLflow can replace this gate."""
    with pytest.raises(Exception, match="must be a positive number"):
        MetricThreshold(min_absolute_change=-0.02, greater_is_better=True)


def test_value_on_its_limit_passes_despite_rounding() -> None:
    assert 0.3 - 0.1 > 0.2 - 1e-16 and 1.1 - 0.2 > 0.9
    assert _passes(Threshold(max_drop=0.2), "exact_match", 0.9, 1.1)
    assert _passes(Threshold(max_drop=0.2), "latency_ms_p50", 0.1 + 0.2, 0.1)
    assert not _passes(Threshold(max_drop=0.2), "exact_match", 0.899999, 1.1)


def test_unmeasured_metric_meets_no_threshold() -> None:
    gate = {"perplexity": Threshold(min=1.0, max=2.0, max_drop=0.5)}
    reference = Baseline("transformers", {"perplexity": 1.2})

    assert list(find_violations(gate, {}, [reference])) == [
        "perplexity was not measured: registry.gate.perplexity.min=1",
        "perplexity was not measured: registry.gate.perplexity.max=2",
        "perplexity was not measured: registry.gate.perplexity.max_drop=0.5",
    ]
    assert list(find_violations(gate, {"perplexity": 1.2}, [Baseline("transformers", {})])) == [
        "perplexity is 1.2: not measured for transformers, so "
        "registry.gate.perplexity.max_drop=0.5 is not met"
    ]
    assert list(find_violations({"perplexity": Threshold()}, {}, [reference])) == []


def test_nan_meets_no_threshold() -> None:
    nan = float("nan")
    for threshold in (Threshold(min=0.0), Threshold(max=1.0), Threshold(max_drop=1.0)):
        assert not _passes(threshold, "exact_match", nan, 0.5)
    assert not _passes(Threshold(max_drop=1.0), "exact_match", 0.5, nan)


def test_reference_agrees_with_itself() -> None:
    gate = {"agreement": Threshold(min=0.97, max_drop=0.03)}

    enforce(gate, TRANSFORMERS, "more exact", [TRANSFORMERS, GENAI], None)
    with pytest.raises(UserError) as raised:
        enforce(gate, GENAI, "faster", [TRANSFORMERS, GENAI], None)
    assert str(raised.value).splitlines() == [
        "the gate failed, so no version was registered: the candidate is genai (faster), but",
        "agreement is 0.969: below registry.gate.agreement.min=0.97",
        "agreement is 0.969: worse by 0.031 than 1 of transformers, but "
        "registry.gate.agreement.max_drop=0.03",
        "transformers would pass, but is not the candidate; to register it, set "
        "registry.flavor=transformers (models:/m-1)",
    ]


def test_gate_limits_bounds_p_values_and_user_metrics() -> None:
    gate = {
        "exact_match_low": Threshold(min=0.95),
        "token_f1_p": Threshold(min=0.05),
        "politeness": Threshold(max_drop=1.0),
    }

    with pytest.raises(UserError) as raised:
        enforce(gate, GENAI, "faster", [TRANSFORMERS, GENAI], None)

    assert str(raised.value).splitlines()[1:] == [
        "exact_match_low is 0.9385: below registry.gate.exact_match_low.min=0.95",
        "token_f1_p is 0.0312: below registry.gate.token_f1_p.min=0.05",
        "politeness is 0.5: worse by 2.75 than 3.25 of transformers, but "
        "registry.gate.politeness.max_drop=1",
    ]


def test_interval_bounds_share_their_metric_direction() -> None:
    columns = ["exact_match_low", "perplexity", "latency_ms_p95", "token_f1_p", "politeness"]
    assert [is_higher_better(column) for column in columns] == [True, False, False, True, True]


def answers(*scores: float) -> Array:
    return np.column_stack([scores, np.ones(len(scores))])


def int4(n: int, lost: int) -> ModelMetrics:
    """Return the metrics of a model that loses some of the rows that the reference answers."""
    ours, theirs = answers(*[0.0] * lost, *[1.0] * (n - lost)), answers(*[1.0] * n)
    difference = paired_difference(ours, theirs, mean, is_share=True, is_ratio=False)
    assert difference is not None
    share = (n - lost) / n
    return dataclasses.replace(
        GENAI, n=n, exact_match=share, differences={"exact_match": difference}
    )


NON_INFERIOR = {"exact_match_difference_low": Threshold(min=-0.05)}


@pytest.mark.parametrize(("n", "lost"), [(195, 12), (40, 1), (4, 0)])
def test_gate_on_the_worse_end_refuses_what_a_drop_lets_pass(n: int, lost: int) -> None:
    """Too few rows must not pass, whatever their difference is."""
    reference = dataclasses.replace(TRANSFORMERS, n=n, exact_match=1.0)
    candidate = int4(n, lost)
    models = [reference, candidate]
    drop = {"exact_match": Threshold(max_drop=0.065)}
    enforce(drop, candidate, "registry.flavor=genai", models, None)
    with pytest.raises(
        UserError, match=r"below registry.gate.exact_match_difference_low.min=-0.05"
    ):
        enforce(NON_INFERIOR, candidate, "registry.flavor=genai", models, None)
    # The reference does not differ from itself.
    enforce(NON_INFERIOR, reference, "registry.flavor=transformers", models, None)


def test_gate_on_the_worse_end_lets_a_good_model_pass() -> None:
    reference = dataclasses.replace(TRANSFORMERS, exact_match=1.0)
    candidate = int4(195, 1)
    enforce(NON_INFERIOR, candidate, "faster", [reference, candidate], None)


def test_model_without_reference_is_limited_but_not_compared() -> None:
    enforce({"exact_match": Threshold(min=0.9)}, GENAI, "the only one", [GENAI], None)
    with pytest.raises(UserError, match=r"exact_match is 0.964: below"):
        enforce({"exact_match": Threshold(min=0.97)}, GENAI, "the only one", [GENAI], None)
    alone = dataclasses.replace(GENAI, agreement=None)
    with pytest.raises(UserError, match="agreement was not measured"):
        enforce({"agreement": Threshold(min=0.5)}, alone, "the only one", [alone], None)
    champion = Baseline("models:/m/1", {"exact_match": 1.0})
    with pytest.raises(UserError, match=r"worse by 0\.036 than 1 of models:/m/1"):
        drop = {"exact_match": Threshold(max_drop=0.01)}
        enforce(drop, GENAI, "the only one", [GENAI], champion)


def test_differences_share_their_metric_direction() -> None:
    columns = ["exact_match_difference", "perplexity_ratio_high", "bleu_difference_low"]
    assert [is_higher_better(column) for column in columns] == [True, False, True]
