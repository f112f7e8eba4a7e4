"""A comparison with figures that are easy to tell apart."""

from steps.evaluate.result import Evaluation, FlavorFigures

TRANSFORMERS = FlavorFigures(
    flavor="transformers",
    target="cpu_int4",
    exporter="optimum",
    model_uri="models:/m-1",
    n=195,
    exact_match=0.974,
    token_f1=0.9951,
    agreement=None,
    perplexity=1.1812,
    ttft_ms_p50=62.04,
    latency_ms_p50=449.4,
    latency_ms_p95=1653.0,
    prefill_tokens_per_s=450.2,
    decode_tokens_per_s=34.6,
    load_s=2.884,
    peak_rss_mb=638.2,
    model_size_mb=8.1,
)
GENAI = FlavorFigures(
    flavor="genai",
    target="cpu_int4",
    exporter="optimum",
    model_uri="models:/m-2",
    n=195,
    exact_match=0.964,
    token_f1=0.991,
    agreement=0.969,
    perplexity=None,
    ttft_ms_p50=None,
    latency_ms_p50=33.3,
    latency_ms_p95=43.0,
    prefill_tokens_per_s=None,
    decode_tokens_per_s=None,
    load_s=0.112,
    peak_rss_mb=None,
    model_size_mb=3.2,
)
EVALUATION = Evaluation("run", "tiny_phi3", (TRANSFORMERS, GENAI))
