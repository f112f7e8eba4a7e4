import json
from dataclasses import fields

from steps.evaluate.result import Evaluation, FlavorFigures
from tests.evaluate.figures import EVALUATION, GENAI

COLUMNS = (
    "flavor target exporter model_uri n exact_match token_f1 agreement perplexity ttft_ms_p50 "
    "latency_ms_p50 latency_ms_p95 prefill_tokens_per_s decode_tokens_per_s load_s peak_rss_mb "
    "model_size_mb"
)


def test_columns_are_those_others_rely_on() -> None:
    assert " ".join(field.name for field in fields(FlavorFigures)) == COLUMNS


def test_json_round_trip() -> None:
    assert Evaluation.from_json(json.loads(json.dumps(EVALUATION.to_json()))) == EVALUATION


def test_measured_leaves_out_names_and_what_is_unknown() -> None:
    assert GENAI.measured() == {
        "n": 195,
        "exact_match": 0.964,
        "token_f1": 0.991,
        "agreement": 0.969,
        "latency_ms_p50": 33.3,
        "latency_ms_p95": 43.0,
        "load_s": 0.112,
        "model_size_mb": 3.2,
    }
    assert GENAI.metrics()["genai.token_f1"] == 0.991
