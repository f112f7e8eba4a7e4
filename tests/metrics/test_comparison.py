import dataclasses
import json

import pytest

from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import COLUMNS as BUILT_IN
from slmflow.metrics.model_metrics import (
    NUMERIC_COLUMNS,
    ModelMetrics,
    describe_columns,
    needs_reference,
)
from slmflow.metrics.uncertainty import Difference
from slmflow.pipeline.results import Evaluation
from tests.metrics.samples import COMPARISON, GENAI, TRANSFORMERS

FIELDS = (
    "flavor target exporter precision verdict model_uri n exact_match exact_match_strict contains "
    "token_f1 rouge_l bleu agreement shared_prefix perplexity accuracy not_answered timed_rows "
    "ttft_ms_p50 latency_ms_p50 latency_ms_p95 latency_ms_p99 "
    "prefill_tokens_per_s decode_tokens_per_s load_s peak_rss_mb model_size_mb mean_kl"
)
COMPARED = "{0}_low {0}_high {0}_p {0}_difference {0}_difference_low {0}_difference_high"
COLUMNS = " ".join(
    [
        FIELDS,
        *map(
            COMPARED.format,
            ("exact_match", "exact_match_strict", "contains", "token_f1", "rouge_l", "bleu"),
        ),
        "agreement_low agreement_high shared_prefix_low shared_prefix_high",
        "perplexity_low perplexity_high perplexity_p",
        "perplexity_ratio perplexity_ratio_low perplexity_ratio_high",
        COMPARED.format("accuracy"),
        "ttft_ms_p50_low ttft_ms_p50_high latency_ms_p50_low latency_ms_p50_high",
        "prefill_tokens_per_s_low prefill_tokens_per_s_high",
        "decode_tokens_per_s_low decode_tokens_per_s_high",
    ]
)


def test_column_names_are_stable() -> None:
    assert " ".join(BUILT_IN) == COLUMNS
    assert [column.name for column in describe_columns()] == FIELDS.split()
    user_columns = f"politeness {COMPARED.format('politeness')}"
    assert " ".join(GENAI.columns()) == f"{COLUMNS} {user_columns}"


def test_columns_hold_verdict_and_differences() -> None:
    perplexity = Difference(1.02, 1.01, 1.03)
    columns = dataclasses.replace(
        GENAI, differences=GENAI.differences | {"perplexity": perplexity}
    ).columns()
    assert (columns["verdict"], columns["precision"]) == ("good enough", "int4")
    names = ("exact_match_difference", "exact_match_difference_low", "exact_match_difference_high")
    assert [columns[name] for name in names] == [-0.0103, -0.0361, 0.0155]
    assert columns["perplexity_ratio_high"] == 1.03
    assert COMPARISON.models[0].columns()["verdict"] is None


@pytest.mark.parametrize(
    ("difference", "effect"),
    [
        (Difference(1.0003, 1.0002, 1.0005), "negligible"),
        (Difference(1.0003, 1.0002, 1.0051), "worse"),
        (Difference(0.9, 0.8, 0.95), "better"),
    ],
)
def test_tiny_difference_is_not_called_worse(difference: Difference, effect: str) -> None:
    """However certain it is: both perplexities are shown as 1.002."""
    reference = dataclasses.replace(TRANSFORMERS, perplexity=1.0021)
    genai = dataclasses.replace(
        GENAI,
        perplexity=1.0021 * difference.value,
        p_values={"perplexity": 0.0002},
        differences={"perplexity": difference},
    )
    assert Comparison("run", "m", (reference, genai)).effects == {"perplexity": effect}


def test_effect_in_a_unit_of_its_own_is_never_negligible() -> None:
    tiny = dataclasses.replace(GENAI, differences={"politeness": Difference(-0.001, -0.001, 0.0)})
    comparison = Comparison("run", "m", (TRANSFORMERS, tiny))
    assert comparison.effects["politeness"] == "worse"


def test_columns_that_compare_need_a_reference() -> None:
    needing = [column for column in NUMERIC_COLUMNS if needs_reference(column)]
    assert {"agreement_low", "shared_prefix", "exact_match_p", "bleu_difference"} <= set(needing)
    assert {"perplexity_ratio_high", "accuracy_difference_low"} <= set(needing)
    assert not {"n", "exact_match_low", "perplexity", "latency_ms_p50"} & set(needing)
    assert not needs_reference("my_p")  # a metric of the user


def test_result_round_trips_through_json() -> None:
    stored = json.loads(json.dumps(COMPARISON.to_result().to_json()))
    assert Comparison.from_result(Evaluation.from_json(stored)) == COMPARISON


def test_measured_has_only_measured_numbers() -> None:
    model = ModelMetrics(
        *("genai", None, None, "models:/m-2", 195),
        exact_match=0.964,
        load_s=0.112,
        user_metrics={"politeness": 0.5},
        intervals={"exact_match": (0.9385, 0.9846)},
        p_values={"exact_match": 0.6875, "politeness": 0.0002},
    )
    numbers = {
        "n": 195,
        "exact_match": 0.964,
        "load_s": 0.112,
        "exact_match_low": 0.9385,
        "exact_match_high": 0.9846,
        "exact_match_p": 0.6875,
        "politeness": 0.5,
        "politeness_p": 0.0002,
    }
    assert model.measured() == numbers
    headline = ("exact_match", "politeness")
    assert model.mlflow_metrics() == {f"genai.{name}": numbers[name] for name in headline}
