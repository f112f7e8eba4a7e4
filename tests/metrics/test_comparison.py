import json

from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import COLUMNS as BUILT_IN
from slmflow.metrics.model_metrics import ModelMetrics, describe_columns
from slmflow.pipeline.results import Evaluation
from tests.metrics.samples import COMPARISON, GENAI

COLUMNS = (
    "flavor target exporter model_uri n exact_match exact_match_strict contains token_f1 "
    "rouge_l bleu agreement "
    "shared_prefix perplexity accuracy ttft_ms_p50 latency_ms_p50 latency_ms_p95 latency_ms_p99 "
    "prefill_tokens_per_s decode_tokens_per_s load_s peak_rss_mb model_size_mb "
    "exact_match_low exact_match_high exact_match_p "
    "exact_match_strict_low exact_match_strict_high exact_match_strict_p "
    "contains_low contains_high contains_p "
    "token_f1_low token_f1_high token_f1_p rouge_l_low rouge_l_high rouge_l_p "
    "bleu_low bleu_high bleu_p agreement_low agreement_high shared_prefix_low shared_prefix_high "
    "perplexity_low perplexity_high perplexity_p accuracy_low accuracy_high accuracy_p "
    "ttft_ms_p50_low ttft_ms_p50_high "
    "latency_ms_p50_low latency_ms_p50_high prefill_tokens_per_s_low prefill_tokens_per_s_high "
    "decode_tokens_per_s_low decode_tokens_per_s_high"
)


def test_column_names_are_stable() -> None:
    assert " ".join(BUILT_IN) == COLUMNS
    assert [column.name for column in describe_columns()] == COLUMNS.split()[:24]
    user_columns = "politeness politeness_low politeness_high politeness_p"
    assert " ".join(GENAI.columns()) == f"{COLUMNS} {user_columns}"


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
    assert model.mlflow_metrics() == {f"genai.{name}": value for name, value in numbers.items()}
