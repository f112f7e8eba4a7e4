"""A comparison with distinct values, and rows with hostile texts."""

import dataclasses

import pandas as pd

from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import SUFFIXES, MetricColumn, ModelMetrics
from slmflow.metrics.row_comparison import RowComparison
from slmflow.metrics.uncertainty import Difference
from slmflow.metrics.verdict import GOOD_ENOUGH, Verdict
from slmflow.reports.content import ReportContent
from slmflow.reports.sources import ComparisonSources

USER_COLUMNS = {"politeness": MetricColumn("mean of my_metrics:politeness", "{:,.4g}", SUFFIXES)}
TRANSFORMERS = ModelMetrics(
    flavor="transformers",
    target="cpu_int4",
    exporter="optimum",
    precision="fp32",
    model_uri="models:/m-1",
    n=195,
    exact_match=0.974,
    exact_match_strict=0.923,
    contains=0.974,
    token_f1=0.9951,
    rouge_l=0.9951,
    bleu=98.64,
    perplexity=1.1812,
    timed_rows=32,
    ttft_ms_p50=62.04,
    latency_ms_p50=449.4,
    latency_ms_p95=1653.0,
    latency_ms_p99=1702.0,
    prefill_tokens_per_s=450.2,
    decode_tokens_per_s=34.6,
    load_s=2.884,
    peak_rss_mb=638.2,
    model_size_mb=8.1,
    user_metrics={"politeness": 3.25},
    user_columns=USER_COLUMNS,
    intervals={"exact_match": (0.9487, 0.9949), "politeness": (3.0, 3.5)},
)
GENAI = ModelMetrics(
    flavor="genai",
    target="cpu_int4",
    exporter="optimum",
    precision="int4",
    verdict=Verdict(GOOD_ENOUGH, 0.05, ("exact_match", "token_f1")),
    model_uri="models:/m-2",
    n=195,
    exact_match=0.964,
    exact_match_strict=0.918,
    contains=0.964,
    token_f1=0.991,
    rouge_l=0.991,
    bleu=97.07,
    agreement=0.969,
    shared_prefix=0.988,
    timed_rows=32,
    latency_ms_p50=33.3,
    latency_ms_p95=43.0,
    latency_ms_p99=44.5,
    load_s=0.112,
    model_size_mb=3.2,
    user_metrics={"politeness": 0.5},
    user_columns=USER_COLUMNS,
    intervals={"exact_match": (0.9385, 0.9846), "agreement": (0.9436, 0.9897)},
    p_values={"exact_match": 0.6875, "token_f1": 0.0312, "politeness": 0.0002},
    differences={
        "exact_match": Difference(-0.0103, -0.0361, 0.0155),
        "token_f1": Difference(-0.0041, -0.0102, -0.0006),
        "politeness": Difference(-2.75, -3.1, -2.4),
    },
)
UNCONVERTED = dataclasses.replace(
    GENAI,
    target=None,
    exporter=None,
    precision=None,
    verdict=None,
    model_uri="models:/chat$/1",
    agreement=None,
    p_values={},
    differences={},
)
COMPARISON = Comparison("run", "tiny_phi3", (TRANSFORMERS, GENAI))
COMPARISON_ALONE = Comparison("run", "tiny_phi3", (UNCONVERTED,))
HOSTILE = (
    "<script>parent.x = document.title = 'ran'</script><img src=x onerror=alert(1)> |a| `b`\n*c*"
)
ANSWER_TABLE = pd.DataFrame(
    [
        ("Capital of Japan?", "It is Tokyo.", "It is Tokyo.", HOSTILE, 1),
        (HOSTILE, "It is Paris.", "It is Paris.", "It is Par", 4),
        ("Capital of Peru?", "It is Lima.", "It is Lima.", "It is Lima.", None),
        ("Capital of Chad?", "It is N'Djamena.", "Chad?", "Who knows.", 1),
        ("Capital of Oman?", "It is Muscat.", "It is Mascat.", "It is Muscat.", 3),
    ],
    columns=["question", "answer", "reference", "prediction", "first_diverging_token"],
).astype({"first_diverging_token": "Int64"})
PROVENANCE = ComparisonSources(
    experiment_id="7",
    runs={"comparison": "c0ffee", "answers of genai": "beef", "conversion": "f00d"},
    parity={
        "parity.max_abs_diff": 2.0625,
        "parity.mean_kl": 0.0391,
        "parity.top1_agreement": 0.868,
        "parity.tokenizer_mismatches": 0.0,
        "parity.exact_max_abs_diff": 5.2e-6,
        "fidelity.mean_kl": 0.0627,
        "fidelity.mean_kl_low": 0.0509,
        "fidelity.mean_kl_high": 0.0746,
        "fidelity.median_kl": 0.0323,
        "fidelity.top1_agreement": 0.862,
        "fidelity.perplexity_ratio": 1.031,
        "fidelity.perplexity_ratio_low": 1.012,
        "fidelity.perplexity_ratio_high": 1.051,
        "fidelity.tokens": 2048,
        "fidelity.rtn_mean_kl": 0.0912,
        "fidelity.rtn_top1_agreement": 0.823,
        "fidelity.rtn_perplexity_ratio": 1.078,
    },
    machine={"cpu": "Z80 <at> 4 MHz", "memory": "64.0 GB"},
    settings={"data": "capitals.jsonl", "system": "Be <brief>."},
)
NOTES = ("The times rest on 32 rows.",)
REPORT = ReportContent(COMPARISON, RowComparison.from_table(ANSWER_TABLE), PROVENANCE, notes=NOTES)
REPORT_ALONE = ReportContent(
    COMPARISON_ALONE, None, ComparisonSources("7", {"measurements": "feed"}, {}, {"cpu": "Z80"})
)
